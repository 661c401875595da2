# SPDX-License-Identifier: Apache-2.0
"""Ending the VM's own flows by the kernel's table of sockets (ports.flows.Flows)."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from vmwarden.errors import ControlFailed
from vmwarden.linux import accounts
from vmwarden.linux.own_addresses import own_addresses
from vmwarden.linux.sock_diag import Destroyed, Handle, SockDiag
from vmwarden.model.flow import Flow, FlowProtocol, Progress
from vmwarden.model.policy import Policy
from vmwarden.rules.kept_flows import Network, keeper

#: Sockets ended by one system call, after which time is looked at again: below a millisecond.
BATCH = 64
#: A look may miss what begins meanwhile, and what stands behind a socket that was ended meanwhile.  The look
#: that finds nothing is the last; this many at most, for programs that begin flows as fast as they are ended.
LOOKS = 4


class Table(Protocol):
    """The sockets of a network namespace; see linux.sock_diag.SockDiag."""

    def shown(self) -> tuple[FlowProtocol, ...]: ...

    def can_destroy(self) -> bool: ...

    def flows(self, protocol: FlowProtocol) -> Iterator[tuple[Handle, ...]]: ...

    def destroy(self, handles: Sequence[Handle]) -> Destroyed: ...

    def close(self) -> None: ...


class OwnFlows:
    """See ports.flows.Flows.  Works in the network namespace in which it is begun; needs CAP_NET_ADMIN.

    One thread.
    """

    def __init__(
        self,
        *,
        uids: Callable[[Iterable[str]], Mapping[str, int]] = accounts.uids,
        table: Callable[[], Table] = SockDiag,
        own: Callable[[], Iterable[Network]] = own_addresses,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """uids: as of controls.gate.NftGate.  own: what is local to this VM.  seconds: a clock."""
        self._uids = uids
        self._open_table = table
        self._own = own
        self._seconds = seconds
        self._table: Table | None = None
        self._steps: Iterator[Progress] = iter(())
        self._progress = Progress(done=True)

    def begin(self, policy: Policy) -> None:
        self._let_go()
        kept = keeper(policy, users=self._users(policy), own=self._own())
        table = self._table = self._open_table()
        protocols = table.shown()
        if not protocols or not table.can_destroy():
            self._let_go()
            raise ControlFailed(f"flows cannot be ended: {_nothing(protocols)}")
        self._progress = Progress()
        self._steps = _steps(table, protocols, kept)

    def go_on(self, within_ms: float) -> Progress:
        until = self._seconds() + within_ms / 1000
        try:
            while self._table is not None and self._seconds() < until:
                self._progress = next(self._steps)
                if self._progress.done:
                    self._let_go()
        except ControlFailed:
            self._let_go()
            raise
        return self._progress

    def ends(self) -> str:
        try:
            table = self._open_table()
            try:
                protocols = table.shown()
                able = table.can_destroy()
            finally:
                table.close()
        except ControlFailed as error:
            return f"nothing: {error}"
        if not protocols or not able:
            return f"nothing: {_nothing(protocols)}"
        return " and ".join(protocol.upper() for protocol in protocols)

    def _users(self, policy: Policy) -> dict[str, int]:
        found: dict[str, int] = {}
        for reach in policy.reach:
            try:
                found.update(self._uids([reach.as_]))
            except ControlFailed:
                continue  # whom this VM does not have has no flows to be kept
        return found

    def _let_go(self) -> None:
        # a look that was not finished goes with its socket
        if self._table is not None:
            self._table.close()
        self._table, self._steps = None, iter(())


def _steps(
    table: Table, protocols: Iterable[FlowProtocol], kept: Callable[[Flow], bool]
) -> Iterator[Progress]:
    """Each step takes about a millisecond; the last one is done."""
    ended = refused = staying = 0
    for _ in range(LOOKS):
        before, staying, refused = ended, 0, 0
        for protocol in protocols:
            for batch in table.flows(protocol):
                doomed = [handle for handle in batch if not kept(handle.flow)]
                staying += len(batch) - len(doomed)
                yield Progress(ended, staying, refused)
                for first in range(0, len(doomed), BATCH):
                    result = table.destroy(doomed[first : first + BATCH])
                    ended += result.ended
                    refused += result.refused
                    yield Progress(ended, staying, refused)
        if ended == before:
            break
    yield Progress(ended, staying, refused, done=True)


def _nothing(protocols: tuple[FlowProtocol, ...]) -> str:
    if not protocols:
        return "the kernel does not show its sockets (modules tcp_diag and udp_diag)"
    return "the kernel was built without CONFIG_INET_DIAG_DESTROY"
