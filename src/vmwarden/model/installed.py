# SPDX-License-Identifier: Apache-2.0
"""What this VM remembers on disk of its owner's will, and what that adds up to."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from vmwarden.model.enrolment import Enrolment
from vmwarden.model.owners import Owners
from vmwarden.model.policy import Name, Policy
from vmwarden.model.verdict import Finding
from vmwarden.model.wire import Count, Number, Wire

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="hex SHA-256")]
Mode = Literal["observe", "enforce"]


class Slot(StrEnum):
    """A file of the state, by what it is for; vmwarden.store.layout says where it lies."""

    OWNERS = "owners"
    ENROLMENT = "enrolment"
    IDENTITY = "identity"
    POLICY = "policy"
    PREVIOUS = "previous"
    PENDING = "pending"
    ARMED = "armed"
    CLOSED = "closed-rules"
    FLOORS = "floors"
    INCIDENTS = "incidents"
    UNRECORDED = "unrecorded"
    LOCK = "lock"


class Unreadable(msgspec.Struct, frozen=True):
    """Something stands where the file should be, and its bytes cannot be had or must not be trusted."""

    why: str


#: what was found in a slot: its bytes, something unreadable, or nothing
Cell = bytes | Unreadable | None


class Session(Wire, frozen=True, kw_only=True):
    """By which connection somebody is logged in; what cannot be told is empty.

    ssh: SSH_CONNECTION, "client port server port".  terminals: "session-id:start" of every session with a
    terminal that the process descends from; start is in clock ticks since boot (proc(5), starttime).
    opened_boot_ms: CLOCK_BOOTTIME at which the oldest process of this connection started.
    """

    ssh: Annotated[str, Meta(max_length=256)] = ""
    terminals: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    opened_boot_ms: int | None = None


class Pending(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.pending/1"):
    """An application of a policy that is under way; written before the policy becomes current.

    state: trial until somebody confirms, then confirmed until everything that follows from it is on disk.
    document, previous: SHA-256 of the files that are current after and before; previous None = no file.
    deadline_boot_ms: CLOCK_BOOTTIME of the boot boot_id at which a trial is over.
    """

    state: Literal["trial", "confirmed"]
    document: Sha256
    previous: Sha256 | None = None
    name: Name
    version: Count
    mode: Mode
    boot_id: Annotated[str, Meta(min_length=1, max_length=64)]
    applied_boot_ms: Count
    applied_utc_ms: Number
    deadline_boot_ms: Count
    session: Session = Session()


class Armed(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.armed/1"):
    """The latch.  That the file is there is what counts; its content says what armed it, a second copy of
    what Floors remembers."""

    vm: Name
    policy_version: Count
    policy_sha256: Sha256


class Floors(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.floors/1"):
    """What never goes down on this VM.

    policy_version, policy_sha256: the last confirmed policy and the digest of its payload; 0 and "" before
    the first.  enforcing: whether that policy enforces.  time_utc_ms: authenticated time that has passed.
    """

    policy_version: Count = 0
    policy_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    enforcing: bool = False
    owners_version: Count = 0
    time_utc_ms: Count = 0


class PurgeOrder(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.purge/1"):
    """The owners' word that this life of a VM's name is over.

    identity: SHA256 fingerprint of the VM's identity key, so that an order counts for one enrolment only.
    """

    vm: Name
    generation: Annotated[int, Meta(ge=1, le=2**31)]
    identity: Annotated[str, Meta(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]


class Outcome(StrEnum):
    """What the warden has to do.

    observe: judge if there is a policy, touch nothing.  enforce: policy is in force.
    closed: close everything except what the boot ruleset on disk leaves open for management.
    """

    OBSERVE = "observe"
    ENFORCE = "enforce"
    CLOSED = "closed"


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What the disk adds up to.

    policy: the one to judge by; None where there is none that may be read.  payload: its signed bytes.
    armed: a confirmed enforce policy has been in force, and neither an observe policy nor a purge since.
    confirmed: policy is not on trial.  pending: the trial that is running.
    findings: why it is closed (answer deny), what is damaged (unknown), what is worth knowing (allow).
    """

    outcome: Outcome
    enrolment: Enrolment | None = None
    owners: Owners | None = None
    policy: Policy | None = None
    payload: str = ""
    armed: bool = False
    confirmed: bool = False
    pending: Pending | None = None
    floors: Floors | None = None
    findings: tuple[Finding, ...] = ()


class Put(msgspec.Struct, frozen=True, tag=True):
    """Replace a file, atomically."""

    slot: Slot
    data: bytes


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Remove a file, if it is there."""

    slot: Slot


Step = Put | Drop


class Change(msgspec.Struct, frozen=True):
    """Something that was done to the state: kind and body are for the journal."""

    kind: str
    body: dict[str, Any]


#: what the body of a change holds: what every journal can carry, so no floats and no big numbers
Told = str | bool | Number | tuple[str, ...] | None


class Happened(Wire, frozen=True, kw_only=True):
    """A change and when it was made."""

    kind: str
    body: dict[str, Told]
    utc_ms: Number
    boot_ms: Count
    boot_id: str


class Unrecorded(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.unrecorded/1"):
    """Changes that commands made and the warden has not written into its journal yet, oldest first.

    forgotten: how many older ones had no room.
    """

    changes: tuple[Happened, ...] = ()
    forgotten: Count = 0
