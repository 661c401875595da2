# SPDX-License-Identifier: Apache-2.0
"""What the command line and the warden say to each other over the control socket: one JSON line each."""

from typing import Literal

from vmwarden.model.decision import Decision
from vmwarden.model.wire import Wire

#: bound on a request line, bytes
REQUEST_BYTES = 4096


class Request(Wire, frozen=True, kw_only=True):
    """status: how things are.  settled: as status, once the first verdict of this boot is final.
    reload: read policy and owners again.  checkpoint: sign the journal as it stands.
    restart: start the program again, as it is installed now; what is open stays open meanwhile."""

    request: Literal["status", "settled", "reload", "checkpoint", "restart"]


class PolicyStatus(Wire, frozen=True, kw_only=True):
    """The policy in force."""

    name: str
    version: int
    mode: str
    valid_until: str
    pending_confirm: bool = False


class GateStatus(Wire, frozen=True, kw_only=True):
    """What holds on this kernel, as it was tried.  closes: when, if the warden dies.  flushed: what becomes
    of our rules if somebody else deletes them.  lease_ms: what is left, 0 = closed.
    out_of_reach: what carries data here and is not judged, as far as kernel and devices tell it."""

    installed: bool
    closes: str = ""
    flushed: str = ""
    lease_ms: int = 0
    out_of_reach: tuple[str, ...] = ()


class JournalStatus(Wire, frozen=True, kw_only=True):
    """Size and root of the record."""

    size: int
    root: str
    writable: bool = True


class Status(Wire, frozen=True, kw_only=True):
    """Everything that an owner asks first.  Times are RFC 3339 or "" where unknown.

    tier: what can honestly be promised now (mission.md).  mode: observe or enforce, as in force.
    posture: taken; in observe mode: the one that would be taken.
    last_verified: when evidence last satisfied every fence.
    notes: what is weaker than it could be on this machine, in words.
    """

    schema: Literal["vmwarden.status/1"]
    vm: str
    tier: int
    mode: Literal["observe", "enforce"]
    armed: bool
    enrolled: bool
    posture: str
    posture_since: str
    settled: bool
    last_verified: str
    decision: Decision
    policy: PolicyStatus | None = None
    gate: GateStatus | None = None
    journal: JournalStatus | None = None
    watcher: Literal["connected", "lost"] = "lost"
    trusted_time: str = ""
    notes: tuple[str, ...] = ()
