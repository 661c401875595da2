# SPDX-License-Identifier: Apache-2.0
"""The second layer of the gate: table netdev vmwarden, at every uplink (rules.netdev_ruleset).

It comes after the first layer and never instead of it.  An uplink that cannot be gated costs nothing but
itself: it is named in ungated() with the reason.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from vmwarden.errors import BugError, CommandFailed, ControlFailed
from vmwarden.linux import accounts, nft
from vmwarden.linux.nfnetlink import NFPROTO_NETDEV, Connection, Message, NetlinkRefused
from vmwarden.linux.rtnetlink import EventsLost, LinkEvents, Links
from vmwarden.model.handover import SecondLayerHandover
from vmwarden.model.link import GoneUplink, Link, LinksHeard, Uplink
from vmwarden.model.policy import Policy
from vmwarden.ports.gate import LONGEST_LEASE_MS, SHORTEST_LEASE_MS
from vmwarden.ports.second_layer import Elements, Left
from vmwarden.rules import timed_services
from vmwarden.rules.netdev_ruleset import (
    DRAIN_SET,
    GUARDED_SET,
    JUDGES,
    LEASE_SET,
    LEASED,
    PRIORITY,
    SWITCHED,
    TABLE,
    TIMED_SET,
    anew,
    fingerprint,
    names,
    table,
)
from vmwarden.rules.uplinks import no_stand_in, uplinks

_HOOKS = {"in": nft.DEVICE_INGRESS, "out": nft.DEVICE_EGRESS}
#: what the kernel says where it has no egress hook (before Linux 5.16, or built without)
_NO_SUCH_HOOK = frozenset((errno.EOPNOTSUPP, errno.EINVAL))


@dataclass(frozen=True, slots=True)
class SecondLayerState:
    """For status.  lease_ms: what is left, 0 = closed.  dropped: packets refused so far, by judge."""

    rules: bool
    fingerprint: str
    uplinks: tuple[Uplink, ...]
    ungated: Mapping[str, str]
    lease_ms: int
    guarded: bool
    dropped: Mapping[str, int] = field(default_factory=dict)


class SecondLayer:
    """Needs CAP_NET_ADMIN and works in the network namespace in which it is used first.  One thread.

    All methods raise ControlFailed; what stood then stands as it was.
    """

    def __init__(
        self,
        uids: Callable[[Iterable[str]], Mapping[str, int]] = accounts.uids,
        *,
        stands_in: Callable[[Link], bool] = no_stand_in,
    ) -> None:
        """uids: as of controls.gate.NftGate.  stands_in: as of rules.uplinks.uplinks."""
        self._uids = uids
        self._stands_in = stands_in
        self._connection: Connection | None = None
        self._links: Links | None = None
        self._events: LinkEvents | None = None
        self._fingerprint = ""
        self._timed = False
        #: the digest of each chain of the table, and of the table itself, as this process made it
        self._made: dict[str, str] = {}
        self._attached: dict[int, Uplink] = {}
        self._ungated: dict[str, str] = {}
        self._gone: list[GoneUplink] = []

    def install(self, policy: Policy, *, left: Callable[[], Left] = Left) -> None:
        """See ports.second_layer."""
        users = self._uids(service.as_ for service in policy.reach)
        wanted = fingerprint(policy, users=users)
        self._timed = timed_services.there_are(policy)
        if self._fingerprint == wanted and self.installed():
            self.mend()
            return
        connection = self._connected()
        found = nft.digests(connection, TABLE, family=NFPROTO_NETDEV)
        whole = anew(policy, users=users)
        lease_stays = bool(self._made)
        if self._is_known(found, names(policy, users=users)):
            try:
                nft.load(table(policy, users=users))
            except CommandFailed:
                lease_stays = False
                self._load(whole)  # another version's table: its parts have other types
        else:
            lease_stays = False
            self._load(whole)
        if not lease_stays:
            # before there is a chain at any device: what is open loses nothing
            self._commit_left(connection, left())
        ours = names(policy, users=users)
        now = nft.digests(connection, TABLE, family=NFPROTO_NETDEV)
        if not now.keys() >= {"", *ours}:
            raise ControlFailed("the second layer's rules: somebody deleted them while they were loaded")
        kept = {name: value for name, value in self._made.items() if name in now and _index(name)}
        self._made = {name: now[name] for name in ("", *ours)} | kept
        self._fingerprint = wanted
        self.mend()

    def lease(self, milliseconds: int, *, guarded: bool = False) -> None:
        """Permit traffic for so long from now, as ports.gate.Gate.lease; without the first layer."""
        if milliseconds > LONGEST_LEASE_MS:
            raise BugError(f"a lease of {milliseconds} ms: at most {LONGEST_LEASE_MS}")
        if milliseconds < SHORTEST_LEASE_MS:
            self.flush()
        else:
            messages = self.renewal(milliseconds, guarded=guarded)
            self._installed().commit(messages, what="renewing the second layer's lease")

    def renewal(
        self, milliseconds: int, *, guarded: bool, drained: int = 0, services: Elements | None = None
    ) -> list[Message]:
        """What lease says, for a transaction that renews the first layer too."""
        name = GUARDED_SET if guarded else LEASE_SET if services is None else TIMED_SET
        added = [_timed(name, LEASED, milliseconds)] if milliseconds else []
        if drained:
            added.append(_timed(DRAIN_SET, LEASED, drained))
        for each, ends in (services or {}).items():
            added += nft.keyed(TABLE, each, ends, family=NFPROTO_NETDEV)
        return [*self.ending(), *added]

    def switched(self, name: str, milliseconds: int) -> list[Message]:
        """See ports.second_layer."""
        return [_emptied(name), _timed(name, SWITCHED, milliseconds)]

    def flush(self) -> None:
        """End every lease of this layer at once."""
        self._installed().commit(self.ending(), what="ending the second layer's lease")

    def ending(self) -> list[Message]:
        """What flush says, for a transaction that ends the first layer's lease too."""
        names = (LEASE_SET, GUARDED_SET, DRAIN_SET, *((TIMED_SET, timed_services.SET) if self._timed else ()))
        return [_emptied(name) for name in names]

    def installed(self) -> bool:
        """Whether everything stands as this process made it, at every uplink that could be gated."""
        if not self._made or self._connection is None:
            return False
        return nft.digests(self._connection, TABLE, family=NFPROTO_NETDEV) == self._made

    def fileno(self) -> int:
        """Readable when something happened to a device: then call link_event."""
        return self._watching().fileno()

    def link_event(self) -> LinksHeard:
        """Read what happened to the devices, and give each uplink what it now needs."""
        lost = False
        try:
            events = self._watching().read()
        except EventsLost:
            events, lost = (), True
        for event in events:
            uplink = self._attached.get(event.link.index)
            if event.gone and event.moved_to is not None and uplink is not None:
                self._gone.append(GoneUplink(uplink, event.moved_to, event.moved_index or event.link.index))
        # reading the tables is the dear part, and this is asked with every tick
        if self._made and (events or lost or self._ungated):
            self.mend(lost=lost)
        return LinksHeard(events, lost)

    def mend(self, *, lost: bool = False) -> None:
        """Chains at every uplink, and at nothing else; each device in a transaction of its own.

        lost: events were lost; an uplink that is not there any more may then have moved.
        """
        connection = self._installed()
        # listen before looking: what happens in between is told
        self._watching()
        wanted = {each.index: each for each in uplinks(self._devices().all(), stands_in=self._stands_in)}
        standing = nft.base_chains(connection, TABLE, family=NFPROTO_NETDEV)
        now = nft.digests(connection, TABLE, family=NFPROTO_NETDEV)
        self._forget_gone(wanted, lost=lost)
        self._ungated = {}
        for uplink in wanted.values():
            before = self._attached.get(uplink.index)
            chains = [name for name in now if _index(name) == uplink.index]
            unchanged = chains and all(now[name] == self._made.get(name) for name in chains)
            if not (unchanged and before is not None and before.name == uplink.name):
                self._attach(connection, uplink, [name for name in chains if name in standing])
            self._attached[uplink.index] = uplink
        for name in standing:
            if _index(name) not in wanted:
                self._drop(connection, name)
        now = nft.digests(connection, TABLE, family=NFPROTO_NETDEV)
        self._made = {
            name: value
            for name, value in (self._made | {name: now[name] for name in now if _index(name)}).items()
            if not _index(name) or name in now
        }

    def uplinks(self) -> tuple[Uplink, ...]:
        """The uplinks of this namespace as of the last look, gated or not."""
        return tuple(self._attached.values())

    def ungated(self) -> dict[str, str]:
        """Uplinks that have not both chains, by name, and why."""
        return dict(self._ungated)

    def gone(self) -> tuple[GoneUplink, ...]:
        """Uplinks that were moved to another namespace and have not come back."""
        return tuple(self._gone)

    def state(self) -> SecondLayerState:
        """Read back from the kernel."""
        connection = self._connected()
        rules = self.installed()
        left, guarded = 0, False
        for name, is_guarded in ((LEASE_SET, False), (GUARDED_SET, True)):
            found = nft.left(connection, TABLE, name, family=NFPROTO_NETDEV) if rules else 0
            if found:
                left, guarded = found, is_guarded
        return SecondLayerState(
            rules=rules,
            fingerprint=self._fingerprint if rules else "",
            uplinks=self.uplinks(),
            ungated=self.ungated(),
            lease_ms=left,
            guarded=guarded,
            dropped=nft.dropped(connection, TABLE, family=NFPROTO_NETDEV),
        )

    def remove(self) -> None:
        """Leave no trace.  Removing twice is no error."""
        nft.delete(self._connected(), TABLE, family=NFPROTO_NETDEV)
        self.close()

    def hand_over(self) -> SecondLayerHandover:
        """See ports.second_layer."""
        attached = ((uplink.index, uplink.name, uplink.bus) for uplink in self._attached.values())
        return SecondLayerHandover(
            fingerprint=self._fingerprint, made=dict(self._made), attached=tuple(attached)
        )

    def take_over(self, word: SecondLayerHandover) -> None:
        """See ports.second_layer."""
        self._connected()
        self._made, self._fingerprint = dict(word.made), word.fingerprint
        self._attached = {index: Uplink(index, name, bus) for index, name, bus in word.attached}

    def close(self) -> None:
        """Let go; the closed rules stay, and the lease lapses."""
        for each in (self._connection, self._links, self._events):
            if each is not None:
                each.close()
        self._connection, self._links, self._events = None, None, None
        self._made, self._fingerprint = {}, ""
        self._attached, self._ungated, self._gone = {}, {}, []

    def _is_known(self, found: Mapping[str, str], ours: Iterable[str]) -> bool:
        """Whether exchanging the rules leaves nothing in the table but ours."""
        if self._made:
            regular = [name for name in found if not _index(name)]
            return all(found[name] == self._made.get(name) for name in regular)
        return set(found) <= {"", *ours} | {name for name in found if _index(name)}

    def _commit_left(self, connection: Connection, left: Left) -> None:
        services: Elements | None = {} if self._timed else None
        connection.commit(
            self.renewal(left.milliseconds, guarded=left.guarded, drained=left.drained, services=services),
            what="the second layer's lease",
        )

    def _load(self, text: str) -> None:
        try:
            nft.load(text)
        except CommandFailed as error:
            raise ControlFailed(f"the second layer's rules: {error}", mend=error.mend) from error

    def _attach(self, connection: Connection, uplink: Uplink, standing: list[str]) -> None:
        old = [nft.delete_chain(TABLE, name, family=NFPROTO_NETDEV) for name in standing]
        try:
            messages = _chains(uplink, "in") + _chains(uplink, "out")
            connection.commit(old + messages, what=f"gating {uplink.name}")
        except NetlinkRefused as refused:
            self._ungated[uplink.name] = str(refused)
            if refused.number in _NO_SUCH_HOOK:
                self._attach_inbound(connection, uplink, old)

    def _attach_inbound(self, connection: Connection, uplink: Uplink, old: list[Message]) -> None:
        try:
            connection.commit(old + _chains(uplink, "in"), what=f"gating {uplink.name}")
        except NetlinkRefused as refused:
            self._ungated[uplink.name] = str(refused)
        else:
            self._ungated[uplink.name] += "; inbound is gated"

    def _drop(self, connection: Connection, name: str) -> None:
        try:
            connection.commit(
                [nft.delete_chain(TABLE, name, family=NFPROTO_NETDEV)], what=f"removing chain {name}"
            )
        except NetlinkRefused as refused:
            if refused.number != errno.ENOENT:  # it went with its device
                raise

    def _forget_gone(self, wanted: Mapping[int, Uplink], *, lost: bool) -> None:
        for index, uplink in list(self._attached.items()):
            if index not in wanted:
                del self._attached[index]
                told = any(gone.uplink == uplink for gone in self._gone)
                if lost and not told:
                    self._gone.append(GoneUplink(uplink, None, 0))
        # the same hardware; a device without one is told by its name
        here = {each.bus or each.name for each in wanted.values()}
        self._gone = [gone for gone in self._gone if (gone.uplink.bus or gone.uplink.name) not in here]

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = Connection()
        return self._connection

    def _devices(self) -> Links:
        if self._links is None:
            self._links = Links()
        return self._links

    def _watching(self) -> LinkEvents:
        if self._events is None:
            self._events = LinkEvents()
        return self._events

    def _installed(self) -> Connection:
        if self._connection is None or not self._made:
            raise ControlFailed("the second layer is not installed", mend="install it first")
        return self._connection


def _emptied(name: str) -> Message:
    return nft.emptied(TABLE, name, family=NFPROTO_NETDEV)


def _timed(name: str, kinds: Iterable[int], milliseconds: int) -> Message:
    keys = [kind.to_bytes(2, "big") for kind in kinds]
    return nft.timed(TABLE, name, keys, milliseconds, family=NFPROTO_NETDEV)


def _chains(uplink: Uplink, direction: str) -> list[Message]:
    name = f"{direction}_{uplink.index}"
    made = nft.new_device_chain(TABLE, name, hook=_HOOKS[direction], priority=PRIORITY, device=uplink.name)
    return [made, *nft.leased_else(TABLE, name, lease=LEASE_SET, judge=JUDGES[direction])]


def _index(name: str) -> int:
    """Of the device, from the name of its chain; 0 = the chain is not one of a device."""
    direction, _, number = name.partition("_")
    return int(number) if direction in _HOOKS and number.isdecimal() else 0
