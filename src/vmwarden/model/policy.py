# SPDX-License-Identifier: Apache-2.0
"""The policy: what the owner signs and the warden reads.

This is the one schema.  JSON Schema for editors and for lint is derived from it
(vmwarden.owner.schema); docs/reference/policy.md is compared with it by a test.
Durations are strings such as "500ms", "60s", "10m", "24h", "7d" (rules.duration parses them).
"""

from typing import Annotated, Literal

from msgspec import Meta

from vmwarden.model.posture import Posture
from vmwarden.model.wire import Wire

FORMAT = "vmwarden.policy/1"

Duration = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(ms|s|m|h|d)$", description="like 60s, 10m, 24h")]
Country = Annotated[str, Meta(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2, upper case")]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
VmPattern = Annotated[str, Meta(pattern=r"^[a-z0-9*][a-z0-9._*-]{0,62}$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Instant = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})$")]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Cidr = Annotated[str, Meta(pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$", description="address/prefix length")]
LeastProof = Literal["declared", "signed", "fresh"]
SshKey = Annotated[
    str, Meta(pattern=r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa) [A-Za-z0-9+/=]+( .*)?$")
]


class Valid(Wire, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Period in which the policy may be installed; from inclusive, until exclusive."""

    from_: Instant
    until: Instant


class FlowIn(Wire, frozen=True, kw_only=True, rename={"from_": "from"}):
    """New connections to a port of this VM.  Exactly one of tcp, udp."""

    from_: Cidr
    tcp: Port | None = None
    udp: Port | None = None


class FlowOut(Wire, frozen=True, kw_only=True):
    """New connections from this VM.  Exactly one of tcp, udp."""

    to: Cidr
    tcp: Port | None = None
    udp: Port | None = None


class Manage(Wire, frozen=True, kw_only=True, rename={"in_": "in"}):
    """The owner's way in, which survives all but poweroff.  TCP only."""

    in_: tuple[FlowIn, ...] = ()
    out: tuple[FlowOut, ...] = ()


class Reach(Wire, frozen=True, kw_only=True, rename={"as_": "as"}):
    """What evidence itself needs while closed: one literal address, one user of this VM."""

    to: Cidr
    as_: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
    tcp: Port | None = None
    udp: Port | None = None


class Scope(Wire, frozen=True, kw_only=True, rename={"in_": "in"}):
    """A named set of flows that stays open in the posture guarded."""

    name: Name
    in_: tuple[FlowIn, ...] = ()
    out: tuple[FlowOut, ...] = ()


class PlaceEntry(Wire, frozen=True, kw_only=True):
    """One accepted place: every listed field must match, within a field one value suffices."""

    country: Country | None = None
    subdivisions: tuple[Text, ...] = ()
    cities: tuple[Text, ...] = ()
    postal_codes: tuple[Text, ...] = ()
    time_zones: tuple[Text, ...] = ()
    buildings: tuple[Text, ...] = ()


class WrongRung(Wire, frozen=True, kw_only=True):
    """A step of the ladder after a deny: posture and, optionally, what to ask of whom."""

    after: Duration
    posture: Posture
    ask: Literal["relocate", "publish", "stay", "remedy", "reset-clock"] | None = None
    of: Literal["host", "manager", "owner"] | None = None


class UnknownRung(Wire, frozen=True, kw_only=True):
    """A step of the ladder after an unknown that followed an allow."""

    after: Duration
    posture: Posture


class Place(Wire, frozen=True, kw_only=True):
    """Where the VM may run."""

    any_of: Annotated[tuple[PlaceEntry, ...], Meta(min_length=1)]
    proof: LeastProof = "signed"
    agree: Annotated[int, Meta(ge=1, le=9)] = 1
    recheck: Duration = "60s"
    issued_within: Duration | None = None
    wrong: tuple[WrongRung, ...] | None = None
    unknown: tuple[UnknownRung, ...] | None = None


class HostClause(Wire, frozen=True, kw_only=True, rename={"in_": "in"}):
    """One typed predicate on one fact.  Exactly one of equals, in, contains, at_least.

    equals, in: the fact is that text, or one of them.  contains: every named label is among the labels.
    at_least: dotted version numbers, compared number by number.
    """

    fact: Text
    equals: Text | None = None
    in_: Annotated[tuple[Text, ...], Meta(min_length=1)] | None = None
    contains: Text | tuple[Text, ...] | None = None
    at_least: Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+){0,5}$")] | None = None
    proof: LeastProof = "declared"


class Host(Wire, frozen=True, kw_only=True):
    """What the host has to be."""

    all_of: Annotated[tuple[HostClause, ...], Meta(min_length=1)]
    recheck: Duration = "60s"
    wrong: tuple[WrongRung, ...] | None = None
    unknown: tuple[UnknownRung, ...] | None = None


class TrustedHost(Wire, frozen=True, kw_only=True):
    """A host whose statements count."""

    name: Text
    key: SshKey


class Facility(Wire, frozen=True, kw_only=True):
    """A row of the owner's table: what is given of the first group implies the second group."""

    region: Text | None = None
    zone: Text | None = None
    building: Text | None = None
    country: Country | None = None
    postal_code: Text | None = None
    time_zone: Text | None = None


class Trust(Wire, frozen=True, kw_only=True):
    """Whose word counts, and the owner's table of facilities (a file name until signing inlines it)."""

    hosts: tuple[TrustedHost, ...] = ()
    facilities: tuple[Facility, ...] = ()


class Gate(Wire, frozen=True, kw_only=True):
    """How the network gate is held.  lease: T of design.md, 1 to 30 s."""

    lease: Duration = "5s"


class Policy(Wire, frozen=True, kw_only=True):
    """One owner's will for the VMs whose enrolled identity matches vms."""

    format: Literal["vmwarden.policy/1"]
    name: Name
    version: Annotated[int, Meta(ge=1, le=2**53)]
    vms: Annotated[tuple[VmPattern, ...], Meta(min_length=1)]
    valid: Valid
    mode: Literal["observe", "enforce"]
    manage: Manage = Manage()
    reach: tuple[Reach, ...] = ()
    scopes: tuple[Scope, ...] = ()
    gate: Gate = Gate()
    place: Place | None = None
    host: Host | None = None
    trust: Trust = Trust()
