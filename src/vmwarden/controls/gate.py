# SPDX-License-Identifier: Apache-2.0
"""The gate in nf_tables (ports.gate.Gate): table inet vmwarden drops, inet vmwarden_alive permits.

The first is static, made of vmwarden.rules.ruleset, and stays when the warden goes.  The second belongs
to this process's netlink socket, where the kernel can do that, and goes with it, however it ends.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from vmwarden.errors import BugError, CommandFailed, ControlFailed
from vmwarden.linux import accounts, nft
from vmwarden.linux.nfnetlink import Connection, NetlinkRefused
from vmwarden.model.policy import Policy
from vmwarden.ports.gate import LONGEST_LEASE_MS, SHORTEST_LEASE_MS
from vmwarden.rules.ruleset import ALIVE_TABLE, TABLE, closed, exchanged, fingerprint


@dataclass(frozen=True, slots=True)
class GateCapabilities:
    """What this kernel gives.  owner: the gate closes with the warden's death; else when the lease lapses."""

    owner: bool

    @property
    def on_death(self) -> str:
        """For status: when the network closes if the warden dies."""
        return "at once" if self.owner else "when the lease lapses (the kernel has no owner tables)"


@dataclass(frozen=True, slots=True)
class GateState:
    """What the kernel says, for status.

    rules, permit: our two tables stand as this gate has made them.
    fingerprint: names the rules in force; the comment of each last drop carries it.  "" = not by this gate.
    lease_ms: what is left of the lease, 0 = closed.  guarded: it is one for the scopes only.
    dropped: packets refused since the rules were loaded, by chain.
    """

    rules: bool
    permit: bool
    fingerprint: str
    lease_ms: int
    guarded: bool
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Made:
    """What this gate left in the kernel: the fingerprint of the text, the digest of each table."""

    fingerprint: str
    rules: str
    permit: str


def uids_of(policy: Policy) -> dict[str, int]:
    """What rules.ruleset.closed needs as users.  Raises ControlFailed for a user this VM does not have."""
    return accounts.uids(service.as_ for service in policy.reach)


class NftGate:
    """See ports.gate.Gate.  It needs CAP_NET_ADMIN and works in the network namespace in which it is used
    first.  One thread."""

    def __init__(
        self,
        uids: Callable[[Iterable[str]], Mapping[str, int]] = accounts.uids,
        *,
        owner_tables: bool = True,
    ) -> None:
        """uids: the uid of each user of this VM; raises ControlFailed for one that it does not have.

        owner_tables: False does as on a kernel that has none (before Linux 5.12).
        """
        self._uids = uids
        self._owner_tables = owner_tables
        self._connection: Connection | None = None
        self._capabilities: GateCapabilities | None = None
        self._made: _Made | None = None
        #: the generation of the rules at which both tables were last found as made.  Reading the tables takes
        #: 1 to 3 ms of CPU, asking for the generation 0.01: the warden looks with every tick.
        self._found_at: int | None = None

    def capabilities(self) -> GateCapabilities:
        """Tried once, on this kernel; leaves nothing behind.  Raises ControlFailed."""
        if self._capabilities is None:
            self._capabilities = GateCapabilities(
                owner=self._owner_tables and nft.owner_flag(self._connected())
            )
        return self._capabilities

    def install(self, policy: Policy) -> None:
        users = self._uids(service.as_ for service in policy.reach)
        wanted = fingerprint(policy, users=users)
        connection = self._connected()
        rules, permit = self._standing()
        if rules and permit and self._made is not None and self._made.fingerprint == wanted:
            return
        text = exchanged(policy, users=users) if rules else closed(policy, users=users)
        self._put(connection, text, permit=permit, named=wanted)

    def restore(self, rules: str) -> None:
        _, permit = self._standing()
        self._put(self._connected(), rules, permit=permit, named="")

    def lease(self, milliseconds: int, *, guarded: bool = False) -> None:
        if milliseconds > LONGEST_LEASE_MS:
            raise BugError(f"a lease of {milliseconds} ms: at most {LONGEST_LEASE_MS}")
        if milliseconds < SHORTEST_LEASE_MS:
            self.flush()
        else:
            connection, found_at = self._installed(), self._found_at
            self._found_at = None
            nft.renew(connection, milliseconds, guarded=guarded)
            if found_at is not None:
                # a renewal always adds an element, so it is one transaction; anybody else's is one too many
                self._found_at = nft.following(found_at)

    def flush(self) -> None:
        # of empty sets it is no transaction at all: the tables are read again next time
        self._found_at = None
        nft.flush(self._installed())

    def installed(self) -> bool:
        return all(self._standing())

    def left_behind(self) -> bool:
        if self._made is not None:
            return False
        connection = self._connected()
        return any(nft.standing(connection, table) for table in (TABLE, ALIVE_TABLE))

    def state(self) -> GateState:
        """Read back from the kernel.  Raises ControlFailed."""
        connection = self._connected()
        rules, permit = self._standing()
        lease = nft.running(connection) if permit else nft.Running(0, False)
        return GateState(
            rules=rules,
            permit=permit,
            fingerprint=self._made.fingerprint if self._made is not None and rules else "",
            lease_ms=lease.milliseconds,
            guarded=lease.guarded,
            dropped=nft.dropped(connection, TABLE),
        )

    def remove(self) -> None:
        connection = self._connected()
        try:
            nft.delete(connection, TABLE, ALIVE_TABLE)
        except NetlinkRefused as refused:
            raise _held_elsewhere(refused) from refused
        self._made = None
        self.close()

    def close(self) -> None:
        """Let go: the permit goes with its owner, the closed rules stay.  For an orderly stop."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._found_at = None

    def closes_on_death(self) -> str:
        return self.capabilities().on_death

    def _put(self, connection: Connection, text: str, *, permit: bool, named: str) -> None:
        try:
            nft.load(text)
        except CommandFailed as error:
            raise ControlFailed(f"the gate's rules: {error}", mend=error.mend) from error
        if not nft.standing(connection, TABLE):
            # nft has no objection to an empty file, and none to one that was cut off between two lines
            raise ControlFailed("the gate's rules: nft took them, and they make no table")
        if not permit:
            self._permit(connection)
        self._found_at = None
        self._made = _Made(
            named, rules=nft.digest(connection, TABLE), permit=nft.digest(connection, ALIVE_TABLE)
        )

    def _permit(self, connection: Connection) -> None:
        try:
            nft.make_alive(connection, owned=self.capabilities().owner)
        except NetlinkRefused as refused:
            raise _held_elsewhere(refused) from refused

    def _standing(self) -> tuple[bool, bool]:
        """Whether each of our tables is as we have made it."""
        if self._made is None or self._connection is None:
            return False, False
        # read before the tables: what changes meanwhile is seen next time
        now_at = nft.generation(self._connection)
        if now_at == self._found_at:
            return True, True
        standing = (
            nft.digest(self._connection, TABLE) == self._made.rules,
            nft.digest(self._connection, ALIVE_TABLE) == self._made.permit,
        )
        self._found_at = now_at if all(standing) else None
        return standing

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = Connection()
        return self._connection

    def _installed(self) -> Connection:
        if self._connection is None or self._made is None:
            raise ControlFailed("the gate is not installed", mend="install it first")
        return self._connection


def _held_elsewhere(refused: NetlinkRefused) -> ControlFailed:
    if refused.number == errno.EPERM:
        return ControlFailed(
            f"{refused}: another process holds table {ALIVE_TABLE}, or the right is missing",
            mend="stop the other warden; run as root",
        )
    return refused
