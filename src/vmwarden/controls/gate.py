# SPDX-License-Identifier: Apache-2.0
"""The gate in nf_tables (ports.gate.Gate): table inet vmwarden drops, inet vmwarden_alive permits.

The first is static, made of vmwarden.rules.ruleset, and stays when the warden goes.  The second belongs
to this process's netlink socket, where the kernel can do that, and goes with it, however it ends.  Behind
both stands a second layer at the devices, whose lease is renewed and ended in the same transactions.
"""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from vmwarden.errors import BugError, CommandFailed, ControlFailed
from vmwarden.linux import accounts, nft
from vmwarden.linux.netlink import StillChanging
from vmwarden.linux.nfnetlink import Connection, Message, NetlinkRefused
from vmwarden.linux.nft_events import RulesetEvents
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.linux.static_rules import StaticRules
from vmwarden.model.handover import GateHandover
from vmwarden.model.link import Uplink
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Answer, Finding
from vmwarden.ports.gate import LONGEST_LEASE_MS, SHORTEST_LEASE_MS, Heard, ServiceLeases
from vmwarden.ports.second_layer import Around, Elements, Left, SecondLayer
from vmwarden.rules import booting, direction, ending, timed_services
from vmwarden.rules.ruleset import ALIVE_TABLE, TABLE, closed, fingerprint
from vmwarden.rules.sha2 import sha256

#: ways around that end when their device is switched off
_END_WITH_LINK = frozenset(("gate.around.xdp", "gate.around.tc", "gate.around.af-xdp"))
#: of what is out of reach: a machine may have hundreds of network cards to give away
_MOST_TOLD = 32
#: why there is no second layer behind restored rules: trying again changes nothing
_NO_POLICY = "there is no policy that says what passes it"


@dataclass(frozen=True, slots=True)
class GateCapabilities:
    """What this kernel gives, as it was tried.

    owner: the gate closes with the warden's death; else when the lease lapses.
    persist: nobody else can delete the closed rules; else they are put back.
    """

    owner: bool
    persist: bool

    @property
    def on_death(self) -> str:
        """For status: when the network closes if the warden dies."""
        return "at once" if self.owner else "when the lease lapses (the kernel has no owner tables)"

    @property
    def on_flush(self) -> str:
        """For status: what becomes of the rules if somebody else deletes them."""
        return (
            "they stay" if self.persist else "put back when the kernel tells of it (no lasting owner tables)"
        )


@dataclass(frozen=True, slots=True)
class GateState:
    """What the kernel says, for status.

    rules, permit: our two tables stand as this gate has made them.
    fingerprint: names the rules in force; of a policy's, the comment of each last drop carries it.
    "" = not by this gate.
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


@dataclass(frozen=True, slots=True)
class _Standing:
    """Which of our tables are as we have made them.  second: also if there is to be none."""

    rules: bool = False
    permit: bool = False
    second: bool = False


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
        second: SecondLayer[Message] | None = None,
        around: Around | None = None,
        owner_tables: bool = True,
        lasting_tables: bool = True,
    ) -> None:
        """uids: the uid of each user of this VM; raises ControlFailed for one that it does not have.

        second: the layer at the devices; around: who looks for ways around both.
        owner_tables: False does as on a kernel that has none (before Linux 5.12).  lasting_tables: False does
        as on one where they go with their owner always (before 6.9).
        """
        self._uids = uids
        self._second = second
        self._around = around
        self._owner_tables = owner_tables
        self._lasting_tables = owner_tables and lasting_tables
        self._connection: Connection | None = None
        self._events: RulesetEvents | None = None
        self._rules: StaticRules | None = None
        self._capabilities: GateCapabilities | None = None
        self._made: _Made | None = None
        #: why the second layer could not be put in place; "" = it stands, or there is to be none
        self._second_failed = ""
        #: somebody changed our tables since: it may have been that, and is worth another try
        self._second_again = False
        #: the generation of the rules at which all tables were last found as made.  Reading the tables takes
        #: 1 to 3 ms of CPU, asking for the generation 0.01: the warden looks with every tick.
        self._found_at: int | None = None
        self._services: timed_services.Services | None = None
        self._services_leased = True
        #: uplinks that are switched off; None = not yet known what a warden before this one has left so
        self._cut: dict[int, Uplink] | None = None

    def capabilities(self) -> GateCapabilities:
        """Tried once, on this kernel; leaves nothing behind.  Raises ControlFailed."""
        if self._capabilities is None:
            connection = self._connected()
            self._capabilities = GateCapabilities(
                owner=self._owner_tables and nft.owner_works(connection),
                persist=self._lasting_tables and nft.persist_works(connection),
            )
        return self._capabilities

    def install(self, policy: Policy) -> None:
        users = self._uids(service.as_ for service in policy.reach)
        wanted = fingerprint(policy, users=users)
        self._services = timed_services.services(policy) if timed_services.there_are(policy) else None
        self._services_leased = True  # what an earlier warden left in the sets is not known
        standing = self._standing()
        same = self._made is not None and self._made.fingerprint == wanted
        if not (standing.rules and standing.permit and same) and self._put(
            closed(policy, users=users), standing, named=wanted
        ):
            self._note_flows(policy)
        if self._second is not None:
            self._install_second(self._second, policy)
        self._found_at = None

    def restore(self, rules: str) -> None:
        wanted, standing = sha256(rules.encode()).hexdigest(), self._standing()
        same = self._made is not None and self._made.fingerprint == wanted
        if not (standing.rules and standing.permit and same):
            self._put(rules, standing, named=wanted)
        self._second_again = False
        if self._second is not None and not self._second.installed():
            self._second_failed = _NO_POLICY
        self._found_at = None

    def lease(
        self,
        milliseconds: int,
        *,
        guarded: bool = False,
        new_flows_ms: int | None = None,
        services: ServiceLeases | None = None,
    ) -> None:
        if milliseconds > LONGEST_LEASE_MS:
            raise BugError(f"a lease of {milliseconds} ms: at most {LONGEST_LEASE_MS}")
        leases = services if services is not None else ServiceLeases({}, {})
        besides = max((ms for ms in leases.passing.values() if ms >= SHORTEST_LEASE_MS), default=0)
        if milliseconds < SHORTEST_LEASE_MS:
            if not besides:
                self.flush()
                return
            milliseconds, new_flows_ms = 0, None
        beginning, drained = milliseconds, 0
        if new_flows_ms is not None and new_flows_ms < milliseconds:
            beginning, drained = new_flows_ms if new_flows_ms >= SHORTEST_LEASE_MS else 0, milliseconds
        elements = self._lease_services(leases)
        second = self._second_layer()
        self._commit(
            nft.renewal(beginning, guarded=guarded, drained=drained, services=besides),
            second.renewal(beginning, guarded=guarded, drained=drained, services=elements)
            if second is not None
            else (),
            what="renewing the lease",
        )

    def end_flows(self, milliseconds: int) -> None:
        connection, second = self._installed(), self._second_layer()
        self._switch(ending.SET, milliseconds)
        if second is not None:
            connection.commit(second.switched(ending.SET, milliseconds), what="ending flows")

    def flush(self) -> None:
        second = self._second_layer()
        # of empty sets it is no transaction at all: the tables are read again next time
        self._found_at = None
        self._commit(nft.ending(), second.ending() if second is not None else (), what="ending the lease")

    def installed(self) -> bool:
        standing = self._standing()
        return standing.rules and standing.permit and standing.second

    def left_behind(self) -> bool:
        if self._made is not None:
            return False
        connection = self._connected()
        return any(nft.standing(connection, table) for table in (TABLE, ALIVE_TABLE, nft.BRIDGE_TABLE))

    def filenos(self) -> tuple[int, ...]:
        if self._made is None:
            return ()
        second = self._second_layer()
        return (self._listening().fileno(), *(() if second is None else (second.fileno(),)))

    def heard(self) -> Heard:
        if self._made is None:
            return Heard()
        touched = self._listening().touched()
        if touched:
            self._shut_if_changed(self._connected())
            if self._second_failed not in ("", _NO_POLICY):
                self._second_again, self._found_at = True, None
        second = self._second_layer()
        if second is None:
            return Heard(touched=touched)
        links = second.link_event()
        if links.events or links.lost:
            self._found_at = None  # a device that came has got chains: the tables have changed
        return Heard(touched=touched, links=links.events, lost=links.lost)

    def around(self) -> tuple[Finding, ...]:
        found: tuple[Finding, ...] = ()
        if self._second_failed:
            found += (
                Finding(
                    id="gate.second-layer.missing",
                    answer=Answer.UNKNOWN,
                    expected="a second layer at the devices",
                    found=self._second_failed,
                    source="gate",
                ),
            )
        second = self._second_layer()
        if second is None or self._around is None:
            return found
        return found + self._around.look(second.uplinks(), gone=second.gone(), ungated=second.ungated())

    def cut_links(self) -> tuple[str, ...]:
        second, around = self._second_layer(), self._around
        if second is None or around is None:
            return ()
        ways = [finding for finding in self.around() if finding.id in _END_WITH_LINK]
        names = {finding.subject for finding in ways}
        # a filter on another device may send to any uplink, and nobody tells where an AF_XDP socket is
        everywhere = bool(names - {uplink.name for uplink in second.uplinks()})
        off = self._off(around)
        cut: list[str] = []
        for uplink in second.uplinks():
            if uplink.index not in off and (everywhere or uplink.name in names):
                around.link_down(uplink)
                off[uplink.index] = uplink
                cut.append(uplink.name)
        return tuple(cut)

    def mend_links(self) -> tuple[str, ...]:
        if self._around is None:
            return ()
        off = self._off(self._around)
        mended: list[str] = []
        while off:
            index, uplink = next(iter(off.items()))
            self._around.link_up(uplink)
            del off[index]
            mended.append(uplink.name)
        return tuple(mended)

    def state(self) -> GateState:
        """Read back from the kernel.  Raises ControlFailed."""
        connection = self._connected()
        standing = self._standing()
        lease = nft.running(connection) if standing.permit else nft.Running(0, False)
        return GateState(
            rules=standing.rules,
            permit=standing.permit,
            fingerprint=self._made.fingerprint if self._made is not None and standing.rules else "",
            lease_ms=lease.milliseconds,
            guarded=lease.guarded,
            dropped=nft.dropped(connection, TABLE),
        )

    def hand_over(self) -> GateHandover | None:
        if self._made is None or self._connection is None or self._rules is None:
            return None
        second = self._second_layer()
        return GateHandover(
            connection=self._connection.fileno(),
            keeper=self._rules.keeper,
            fingerprint=self._made.fingerprint,
            rules=self._made.rules,
            permit=self._made.permit,
            form=nft.alive_form(),
            second=second.hand_over() if second is not None else None,
            cut=tuple((uplink.index, uplink.name) for uplink in (self._cut or {}).values()),
        )

    def take_over(self, word: GateHandover) -> None:
        self._connection = Connection(word.connection)
        keeper = Connection(word.keeper) if word.keeper is not None else None
        self._rules = StaticRules(self._connection, kept=self.capabilities().persist, keeper=keeper)
        # another form of the permit is none of ours: install then makes it anew
        permit = word.permit if word.form == nft.alive_form() else ""
        self._made = _Made(word.fingerprint, rules=word.rules, permit=permit)
        self._cut = {index: Uplink(index, name) for index, name in word.cut}
        if self._second is not None and word.second is not None:
            self._second.take_over(word.second)

    def remove(self) -> None:
        connection = self._connected()
        if self._rules is not None:
            self._rules.close()
        try:
            nft.delete(connection, TABLE, ALIVE_TABLE, nft.BRIDGE_TABLE)
        except NetlinkRefused as refused:
            raise _held_elsewhere(refused) from refused
        if self._second is not None:
            self._second.remove()
        self.mend_links()
        self._made = None
        self.close()

    def close(self) -> None:
        """Let go: the permit goes with its owner, the closed rules stay.  For an orderly stop."""
        for each in (self._connection, self._events, self._rules, self._second, self._around):
            if each is not None:
                each.close()
        self._connection, self._events, self._rules = None, None, None
        self._found_at = None

    def closes_on_death(self) -> str:
        return self.capabilities().on_death

    def on_flush(self) -> str:
        return self.capabilities().on_flush

    def out_of_reach(self) -> tuple[str, ...]:
        second = self._second_layer()
        if second is None:
            why = self._second_failed or "there is no second layer"
            found: tuple[str, ...] = (f"all that does not go through this VM's IP stack: {why}",)
        else:
            found = (
                *(f"{name}: {reason}" for name, reason in second.ungated().items()),
                *(f"{each.uplink.name}: it is in another network namespace" for each in second.gone()),
            )
        if self._around is not None:
            found += self._around.unjudged()
        more = len(found) - _MOST_TOLD
        return found if more <= 0 else (*found[:_MOST_TOLD], f"{more} more")

    def _commit(self, first: Sequence[Message], second: Sequence[Message], *, what: str) -> None:
        """Both layers in one transaction; if the second is not there any more, the first alone."""
        connection, found_at = self._installed(), self._found_at
        self._found_at = None
        both = [*first, *second]
        try:
            connection.commit(both, what=what)
        except NetlinkRefused:
            if not second:
                raise
            connection.commit(first, what=what)
            return
        if found_at is not None:
            # a renewal always adds an element, so it is one transaction; anybody else's is one too many
            self._found_at = nft.following(found_at)

    def _lease_services(self, leases: ServiceLeases) -> Elements | None:
        """Into the first layer; what they are in the second.  None: the policy has none."""
        self._installed()
        if self._services is None:
            return None
        elements = {
            name: [(key, ms) for key, ms in ends if ms >= SHORTEST_LEASE_MS]
            for name, ends in self._services.elements(leases.passing, leases.beginning).items()
        }
        some = any(elements.values())
        if some or self._services_leased:
            found_at, self._found_at = self._found_at, None
            messages = [each for name, ends in elements.items() for each in nft.keyed(TABLE, name, ends)]
            self._static(self._connected()).commit(messages, what="renewing the services' leases")
            if some and found_at is not None:
                self._found_at = nft.following(found_at)
        self._services_leased = some
        return elements

    def _install_second(self, second: SecondLayer[Message], policy: Policy) -> None:
        stood = second.installed()
        self._second_again = False
        try:
            second.install(policy, left=self._left)
            if not stood and (booting_ms := nft.left(self._connected(), TABLE, booting.SET)):
                self._connected().commit(
                    second.switched(booting.SET, booting_ms), what="switching booting on"
                )
        except ControlFailed as error:
            # the first layer stands, and the second never stands instead of it
            self._second_failed = str(error)
        else:
            self._second_failed = ""

    def _off(self, around: Around) -> dict[int, Uplink]:
        if self._cut is None:
            self._cut = {uplink.index: uplink for uplink in around.switched_off()}
        return self._cut

    def _left(self) -> Left:
        """Of the lease as it runs in the kernel; less by what passes until the second layer has it."""
        lease, guarded, drained = (
            ms if ms >= SHORTEST_LEASE_MS else 0
            for ms in (
                nft.left(self._connected(), ALIVE_TABLE, name) - SHORTEST_LEASE_MS
                for name in (nft.LEASE_SET, nft.GUARDED_SET, nft.DRAIN_SET)
            )
        )
        return Left(lease or guarded, guarded=not lease, drained=drained)

    def _note_flows(self, policy: Policy) -> None:
        """Flows that were begun against the direction of manage before there were rules to see it."""
        try:
            with closing(SockDiag()) as table:
                found = direction.begun_before(policy, table.tcp())
            messages = [nft.plain(TABLE, name, keys) for name, keys in found.items() if keys]
            if messages:
                self._static(self._connected()).commit(messages, what="noting flows")
        except ControlFailed:
            pass  # without tcp_diag they are not known: they pass a closed gate until they end

    def _put(self, text: str, standing: _Standing, *, named: str) -> bool:
        """Whether what was in the sets of the table is gone."""
        connection = self._connected()
        self._listening()
        try:
            rules = self._static(connection)
            self._shut_if_changed(connection)
            booting_ms = nft.left(connection, TABLE, booting.SET)
            anew = rules.put(text, exchange=standing.rules)
            if anew and booting_ms:
                # the boot file has switched it on, and its end is not here yet
                self._switch(booting.SET, booting_ms)
        except CommandFailed as error:
            raise ControlFailed(f"the gate's rules: {error}", mend=error.mend) from error
        except NetlinkRefused as refused:
            raise _held_elsewhere(refused) from refused
        if not standing.permit:
            self._permit(connection)
        self._found_at = None
        made = _Made(named, rules=nft.digest(connection, TABLE), permit=nft.digest(connection, ALIVE_TABLE))
        if not (nft.standing(connection, TABLE) and nft.standing(connection, ALIVE_TABLE)):
            # what has been read may be no table at all, and must not pass for what we have made
            raise ControlFailed("the gate's rules: somebody deleted them while they were loaded")
        self._made = made
        return anew

    def _shut_if_changed(self, connection: Connection) -> None:
        """Somebody has deleted our rules, or changed them: nothing passes a closed gate until they are put
        back.  Before anything else: reading and loading takes tens of milliseconds on a busy machine."""
        if self._made is None or nft.digest(connection, TABLE) == self._made.rules:
            return
        lease = nft.running(connection)
        if not lease.milliseconds or lease.guarded:
            self._static(connection).shut()
            # only put takes that away again: the rules do not stand until then, whoever puts them back
            self._made, self._found_at = replace(self._made, rules=""), None

    def _switch(self, name: str, milliseconds: int) -> None:
        messages = [nft.emptied(TABLE, name), nft.timed(TABLE, name, nft.FAMILIES, milliseconds)]
        self._static(self._connected()).commit(messages, what=f"switching {name} on")

    def _permit(self, connection: Connection) -> None:
        try:
            nft.make_alive(connection, owned=self.capabilities().owner)
        except NetlinkRefused as refused:
            raise _held_elsewhere(refused) from refused

    def _standing(self) -> _Standing:
        if self._made is None or self._connection is None:
            return _Standing()
        # read before the tables: what changes meanwhile is seen next time
        now_at = nft.generation(self._connection)
        if now_at == self._found_at:
            return _Standing(rules=True, permit=True, second=True)
        second = self._second_layer()
        try:
            standing = _Standing(
                rules=nft.digest(self._connection, TABLE) == self._made.rules,
                permit=nft.digest(self._connection, ALIVE_TABLE) == self._made.permit,
                second=not self._second_again and (second is None or second.installed()),
            )
        except StillChanging:
            if not self.capabilities().persist:
                raise
            # a program changes its own tables thousands of times a second; ours nobody else can
            return _Standing(rules=bool(self._made.rules), permit=True, second=not self._second_again)
        whole = standing.rules and standing.permit and standing.second
        self._found_at = now_at if whole else None
        return standing

    def _second_layer(self) -> SecondLayer[Message] | None:
        """If it stands."""
        return None if self._second_failed or self._made is None else self._second

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = Connection()
        return self._connection

    def _listening(self) -> RulesetEvents:
        if self._events is None:
            self._events = RulesetEvents(frozenset((TABLE, ALIVE_TABLE)))
        return self._events

    def _static(self, connection: Connection) -> StaticRules:
        if self._rules is None:
            self._rules = StaticRules(connection, kept=self.capabilities().persist)
        return self._rules

    def _installed(self) -> Connection:
        if self._connection is None or self._made is None:
            raise ControlFailed("the gate is not installed", mend="install it first")
        return self._connection


def _held_elsewhere(refused: NetlinkRefused) -> ControlFailed:
    if refused.number == errno.EPERM:
        return ControlFailed(
            f"{refused}: another process holds our tables, or the right is missing",
            mend="stop the other warden; run as root",
        )
    return refused
