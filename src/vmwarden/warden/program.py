# SPDX-License-Identifier: Apache-2.0
"""Putting the warden together."""

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from vmwarden.controls.flows import OwnFlows
from vmwarden.controls.gate import NftGate
from vmwarden.controls.power import Power
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.controls.services import Services
from vmwarden.controls.way_around import WayAround
from vmwarden.errors import JournalError, UntrustedInput, UsageError, WorldError
from vmwarden.linux import landlock, successor
from vmwarden.linux.clock import SystemClock
from vmwarden.linux.lock import exclusive
from vmwarden.linux.privileges import stay_runnable, uid_of
from vmwarden.model.handover import HANDOVER_BYTES, Handover
from vmwarden.model.moment import Moment
from vmwarden.ports.journal import Journal
from vmwarden.ports.tls import Tls
from vmwarden.rules import canonical
from vmwarden.store import incidents
from vmwarden.store.identity import identity_key
from vmwarden.store.installed import load
from vmwarden.store.journal import open_journal
from vmwarden.store.layout import Layout
from vmwarden.store.unkept import Unkept
from vmwarden.warden.loop import Loop
from vmwarden.warden.memory import Memory
from vmwarden.warden.stamps import Stamps
from vmwarden.warden.warden import Warden

#: a warden that is being stopped needs less to be gone, seconds
_LOCK_WITHIN_S = 3.0


def serve(
    layout: Layout,
    *,
    observe_only: bool,
    watcher_user: str,
    watcher_command: tuple[str, ...] | None,
    for_ms: int | None,
    say: Callable[[str], None],
) -> int:
    """Be the warden until SIGTERM, or for for_ms milliseconds.  Returns the exit code.

    watcher_command: arguments of vmwarden that start the watcher; None = systemd does.
    Asked to restart, this process becomes the program as it is installed then.
    Raises UsageError for an unknown user, WorldError where the sockets cannot be made or another warden runs.
    """
    clock = SystemClock()
    now = clock.now()
    handover = _inherited(now)
    uid = os.getuid()
    watcher_uid = uid_of(watcher_user) if uid == 0 else uid
    if watcher_uid is None:
        raise UsageError(f"there is no user {watcher_user!r}: create it, or name another with --user")
    with _alone(layout):
        notes = stay_runnable() if not observe_only else ()
        journal, found = _journal(layout, now)
        warden = Warden(
            state=Memory(layout),
            clock=clock,
            gate=NftGate(second=SecondLayer(), around=WayAround()),
            flows=OwnFlows(),
            journal=journal,
            services=Services(),
            power=Power(),
            nonce=_nonce,
            stamps=Stamps(connect=_tls, random=os.urandom),
            say=say,
            observe_only=observe_only,
            notes=notes + landlock.note() + found,
        )
        left = Loop(
            warden,
            clock=clock,
            watcher_path=layout.watcher_socket,
            control_path=layout.control_socket,
            watcher_uid=watcher_uid,
            watcher_command=watcher_command,
            say=say,
            owner_uid=uid,
            until_boot_ms=None if for_ms is None else now.boot_ms + for_ms,
            handover=handover,
        ).run()
        if left is not None:
            kept = () if left.gate is None else (left.gate.connection, left.gate.keeper)
            successor.become(canonical.encode(left), keeping=[one for one in kept if one is not None])
    return 0


def _inherited(now: Moment) -> Handover | None:
    """What the program left that was this process before."""
    word, descriptors = successor.inherited(HANDOVER_BYTES)
    if not word:
        return None
    try:
        handover = canonical.decode(word, Handover, limit=HANDOVER_BYTES, what="the predecessor's word")
    except UntrustedInput:
        handover = None  # another version's: begin as after a death
    if handover is None or handover.boot_id != now.boot_id:
        successor.let_go(descriptors)
        return None
    return handover


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Two wardens would take each other's sockets, and each would find records in its journal that it has not
    written, and set it aside.  Raises WorldError."""
    try:
        layout.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise WorldError(f"{layout.run}: cannot make it: {error.strerror}", mend="run as root") from error
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(layout.run / "warden.lock", wait_s=_LOCK_WITHIN_S))
        except WorldError as error:
            raise WorldError(
                f"another warden runs here ({error})", mend="systemctl stop vmwarden, or name another --root"
            ) from error
        yield


def _tls(*, name: str, authorities: tuple[bytes, ...]) -> Tls:
    from vmwarden.linux.tls_session import TlsSession  # only those load it who list time servers

    return TlsSession(name=name, authorities=authorities)


def _nonce() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def _journal(layout: Layout, now: Moment) -> tuple[Journal, tuple[str, ...]]:
    """The record, and what is wrong with it in words.  Without one nothing is opened."""
    enrolment = load(layout, now).enrolment
    if enrolment is None:
        return Unkept(), ()
    try:
        signer = identity_key(layout)
        journal, findings = open_journal(layout.journal, signer=signer, vm=enrolment.vm, now=now)
    except (UntrustedInput, JournalError, WorldError) as error:
        return Unkept(str(error)), (f"no journal: {error}",)
    forgotten = incidents.load(layout).finding
    return journal, tuple(f"{f.id}: {f.found}" for f in (*findings, forgotten) if f is not None)
