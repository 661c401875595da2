# SPDX-License-Identifier: Apache-2.0
"""The policy: what the owner signs and the warden reads.

This is the one schema.  JSON Schema for editors and for lint is derived from it
(vmwarden.owner.schema); docs/reference/policy.md is compared with it by a test.
Durations are strings such as "500ms", "60s", "10m", "24h", "7d" (rules.duration parses them).
"""

from typing import Annotated, Literal

from msgspec import Meta

from vmwarden.model.hours import DATES, LIST, Dates, Extra, Interval, IntervalName, ZoneName
from vmwarden.model.posture import Posture
from vmwarden.model.time_servers import TrustedTime
from vmwarden.model.wire import Wire

FORMAT = "vmwarden.policy/1"
#: bound on services with hours of their own; the gate is measured with as many
SERVICES = 1000

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


class NamedInterval(Wire, frozen=True, kw_only=True):
    """Intervals under one name, to be written once and used where the name is."""

    name: Name
    any_of: Annotated[tuple[Interval, ...], Meta(min_length=1, max_length=LIST)]


#: when something is open: in any of these, each written out or by the name of one of hours.intervals
Openings = Annotated[tuple[IntervalName | Interval, ...], Meta(min_length=1, max_length=LIST)]


class Holidays(Wire, frozen=True, kw_only=True):
    """Dates on which the VM does not open.  Exactly one of country, file.

    subdivision: ISO 3166-2, with country.  file: an iCalendar file beside the policy.
    dates: what the two come to, worked out when the policy is signed; the VM reads these alone.
    """

    country: Country | None = None
    subdivision: Annotated[str, Meta(pattern=r"^[A-Z]{2}-[A-Z0-9]{1,3}$")] | None = None
    file: Text | None = None
    dates: Annotated[tuple[Dates, ...], Meta(max_length=DATES)] = ()


class TimedService(Wire, frozen=True, kw_only=True, rename={"in_": "in"}):
    """Flows with hours of their own: they pass exactly in these, whatever the hours of the rest say.

    closed_on, extra: as in Hours, for this service alone.  holidays: true closes it on the holidays of the
    clause, too.
    """

    name: Name
    in_: Annotated[tuple[FlowIn, ...], Meta(max_length=LIST)] = ()
    out: Annotated[tuple[FlowOut, ...], Meta(max_length=LIST)] = ()
    open: Openings
    closed_on: Annotated[tuple[Dates, ...], Meta(max_length=DATES)] = ()
    extra: Annotated[tuple[Extra, ...], Meta(max_length=LIST)] = ()
    holidays: bool = False


class Hours(Wire, frozen=True, kw_only=True):
    """When the VM serves: in any interval of open that does not begin on a date of closed_on or of holidays,
    and in extra.

    time_zone: for intervals without a location, and for extra.  A date of closed_on is a date in the zone
    of the interval that it takes from.  drain: how long before an end new flows are refused already.
    outside: the posture while closed.  time: the clock that counts: the VM's own, or authenticated stamps;
    recheck: with trusted, for so long a stamp counts.  unknown: ladder while the time is not known.
    """

    open: Openings
    time_zone: ZoneName = "UTC"
    intervals: Annotated[tuple[NamedInterval, ...], Meta(max_length=LIST)] = ()
    closed_on: Annotated[tuple[Dates, ...], Meta(max_length=DATES)] = ()
    holidays: Annotated[tuple[Holidays, ...], Meta(max_length=LIST)] = ()
    extra: Annotated[tuple[Extra, ...], Meta(max_length=LIST)] = ()
    drain: Duration = "0s"
    outside: Literal["guarded", "held", "quarantined"] = "quarantined"
    services: Annotated[tuple[TimedService, ...], Meta(max_length=SERVICES)] = ()
    time: Literal["local", "trusted"] = "local"
    recheck: Duration = "150s"
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
    """Whose word counts, and the owner's table of facilities (a file name until signing inlines it).

    time: whose word counts about the time.
    """

    hosts: tuple[TrustedHost, ...] = ()
    time: TrustedTime | None = None
    facilities: tuple[Facility, ...] = ()


class Gate(Wire, frozen=True, kw_only=True):
    """How the network gate is held.  lease: T of design.md, 1 to 30 s."""

    lease: Duration = "5s"


class Policy(Wire, frozen=True, kw_only=True):
    """One owner's will for the VMs whose enrolled identity matches vms."""

    format: Literal["vmwarden.policy/1"]
    name: Name
    version: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    vms: Annotated[tuple[VmPattern, ...], Meta(min_length=1)]
    valid: Valid
    mode: Literal["observe", "enforce"]
    manage: Manage = Manage()
    reach: tuple[Reach, ...] = ()
    scopes: tuple[Scope, ...] = ()
    gate: Gate = Gate()
    place: Place | None = None
    host: Host | None = None
    hours: Hours | None = None
    trust: Trust = Trust()
