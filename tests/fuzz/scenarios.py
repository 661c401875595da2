# SPDX-License-Identifier: Apache-2.0
"""Whole wardens among lies: a captured watcher, garbage beside the truth, files that change under them."""

import itertools
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fuzz.engine import Figures, Found
from tests.fuzz.messages import EVERYTHING, messages
from tests.fuzz.mutate import Mutator
from tests.fuzz.state_files import ARMED, FileWard, layout, put
from tests.unit.warden.ward import VM, Ward, statement
from vmwarden.errors import UntrustedInput
from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.installed import Cell, Slot
from vmwarden.model.message import (
    CARRIED_BYTES,
    Carried,
    Declared,
    Event,
    Gather,
    Gathered,
    RawStatement,
)
from vmwarden.model.time_servers import TrustedTime
from vmwarden.rules import canonical, nts_ke, sshkey
from vmwarden.rules.quota import MOST, WINDOW_MS
from vmwarden.rules.ruleset import intact
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.owners import public_line
from vmwarden.testing.time_server import SimulatedNetwork, SimulatedServer
from vmwarden.warden.network_time import NetworkTime

#: what a captured watcher must not be able to change; floors and incidents are the warden's own to write
KEPT = (Slot.OWNERS, Slot.ENROLMENT, Slot.IDENTITY, Slot.POLICY, Slot.ARMED, Slot.CLOSED)
#: kinds of records that others can cause
_KINDS = 16
_LEASE_MS = 5_000
_RACK_7 = sshkey.parse(public_line("rack-7")).fingerprint
_RECORDS = nts_ke.record(nts_ke.NEXT_PROTOCOL, bytes(2)) + nts_ke.record(nts_ke.END)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """run: one life of so many rounds; raises AssertionError.  counts: rounds in CI, in the long form."""

    name: str
    run: Callable[[random.Random, int], None]
    counts: tuple[int, int]
    life: int = 200


def play(scenario: Scenario, rounds: int, seed: int) -> Figures:
    """Raises Found."""
    started = time.monotonic()
    rng = random.Random(f"{scenario.name}/{seed}")
    try:
        for first in range(0, rounds, scenario.life):
            scenario.run(rng, min(scenario.life, rounds - first))
    except Exception as error:
        raise Found(
            f"{scenario.name}: {error!r}\n"
            f"  repeat: .venv/bin/python -m tests.fuzz {scenario.name} {seed} {rounds}"
        ) from error
    return Figures(scenario.name, rounds, 0, time.monotonic() - started, 0)


class Captured:
    """A watcher that has been taken over.  It has what it ever carried, and friends elsewhere."""

    def __init__(self, rng: random.Random, ward: Ward) -> None:
        self._rng = rng
        self._mutator = Mutator(rng)
        self._ward = ward
        # not the statements: a static one in its period, or the answer to a question of ours, is the truth
        self._stash = [one for one in messages() if b'"jws"' not in one]
        self._true: list[bytes] = []

    def lies(self, order: Gather | None) -> list[bytes]:
        """Some messages: replayed, invented, asked of accomplices, and all of them damaged in any way."""
        if order is not None and order.challenge is not None:
            self._stash += self._from_accomplices(order.challenge.nonce)
            del self._stash[:-60]
        chosen = [self._rng.choice(self._stash) for _ in range(self._rng.randint(1, 4))]
        return [*self._true[-1:], *(self._damaged(one) for one in chosen), self._invented()]

    def keep(self, message: bytes) -> None:
        """Something true that it carried, and carries again."""
        self._true.append(message)
        self._stash.append(message)

    def _damaged(self, message: bytes) -> bytes:
        how = self._rng.random()
        other = self._rng.choice(self._stash)
        if how < 0.3:
            return message
        return self._mutator.json(message, other) if how < 0.8 else self._mutator.raw(message, other)

    def _from_accomplices(self, nonce: str) -> list[bytes]:
        """A trusted host in Germany that answers for another VM, or for another life of this one; a host
        that nobody trusts; and what a trusted one said long ago, or to a question that nobody asked."""
        iat = self._ward.clock.now().utc_ms // 1000
        of_this: dict[str, Any] = {"nonce": nonce, **EVERYTHING}
        tokens = (
            statement("rack-7", iat, vm="payments-2", **of_this),
            statement("rack-7", iat, **of_this, aud={"vm": VM, "generation": 2}),
            statement("rack-8", iat, **of_this),
            statement("rack-7", iat, nonce=nonce[::-1], **EVERYTHING),
            statement("rack-7", iat - 90_000, **EVERYTHING),
        )
        return [
            canonical.encode(
                RawStatement(turn=self._rng.randint(0, 9), source=source, jws=token, boot_frozen=frozen)
            )
            for token in tokens
            for source, frozen in (("virtio-serial", False), ("fw_cfg", True))
        ]

    def _invented(self) -> bytes:
        source = self._rng.choice(("dmi", "fw_cfg", "virtio-serial", f"s{self._rng.randint(0, 99)}"))
        if self._rng.random() < 0.2:
            return canonical.encode(Event(kind="moved", detail=source, strong=True))
        if self._rng.random() < 0.2:
            return canonical.encode(Gathered(turn=self._rng.randint(0, 20)))
        subjects = [Subject.COUNTRY, *self._rng.sample(list(Subject), 2)]
        pieces = tuple(
            Evidence(
                id=f"{source}/{subject}",
                subject=subject,
                source=source,
                value=self._rng.choice(("DE", "x", 7)),
                proof=self._rng.choice((Proof.DECLARED, Proof.DECLARED, *Proof)),
                signer=self._rng.choice(("", "", _RACK_7)),
                observed_boot_ms=self._rng.choice((0, 2**52)),
            )
            for subject in subjects
        )
        return canonical.encode(Declared(turn=self._rng.randint(0, 20), source=source, evidence=pieces))


def _hear(ward: Ward, data: bytes) -> None:
    """As the loop does: who says what he must not is dropped, and comes again."""
    try:
        ward.warden.receive(data)
    except UntrustedInput as error:
        ward.warden.watcher_lost(f"it sent what it must not: {error}")
        ward.warden.watcher_connected()


def _order(ward: Ward) -> Gather | None:
    asked = ward.warden.gather()
    return None if asked is None else canonical.decode(asked, Gather, limit=65536, what="order")


def _answer(ward: Ward, order: Gather, country: str) -> bytes:
    """The host's true word to that order; the message that carried it."""
    assert order.challenge is not None
    iat = ward.clock.now().utc_ms // 1000
    token = statement("rack-7", iat, nonce=order.challenge.nonce, country=country)
    message = canonical.encode(
        RawStatement(turn=order.turn, source="virtio-serial", jws=token, boot_frozen=False)
    )
    _hear(ward, message)
    ward.gathered(order)
    return message


def _denied(rng: random.Random, rounds: int) -> None:
    """The host says truly that it is in France, or cannot be heard; the policy wants Germany."""
    put(ARMED[0])
    heard = rng.choice((0.0, 0.05, 0.5))
    before = {slot: layout().path(slot).read_bytes() for slot in KEPT}
    ward = FileWard()
    ward.start()
    captured = Captured(rng, ward)
    started = ward.clock.now().boot_ms
    for _ in range(rounds):
        order = _order(ward)
        if order is not None and rng.random() < heard:
            captured.keep(_answer(ward, order, "FR"))
        for lie in captured.lies(order):
            _hear(ward, lie)
        ward.clock.advance(rng.choice((0, 50, 500, 2_000)))
        ward.warden.tick()
        assert ward.gate.passing() == "manage", f"the gate is {ward.gate.passing()}"
    assert not any(act[0] in ("lease", "remove") for act in ward.gate.acts), "a lease"
    status = ward.warden.status()
    assert len(canonical.encode(status)) < 1 << 24 and status.armed and status.policy is not None
    assert {slot: layout().path(slot).read_bytes() for slot in KEPT} == before, "the state was changed"
    windows = 1 + (ward.clock.now().boot_ms - started) // WINDOW_MS
    assert len(ward.journal.records) < _KINDS * MOST * windows, "the journal grows without an end"


def _allowed(rng: random.Random, rounds: int) -> None:
    """Two VMs in Germany hear the same truth, until nobody tells it any more; one hears lies besides."""
    honest, lied_to = Ward().start(), Ward().start()
    captured = Captured(rng, lied_to)
    for number in range(rounds):
        orders = _order(honest), _order(lied_to)
        if orders[0] is not None and orders[1] is not None and number < rounds // 3:
            _answer(honest, orders[0], "DE")
            captured.keep(_answer(lied_to, orders[1], "DE"))
        done = len(lied_to.gate.acts)
        for lie in captured.lies(orders[1]):
            _hear(lied_to, lie)
        lied_to.warden.tick()
        honest.warden.tick()
        now, ends = honest.clock.now().boot_ms, honest.warden.status().decision.lease_until_boot_ms
        for act in lied_to.gate.acts[done:]:
            if act[0] == "lease":
                assert ends is not None and now + int(act[1]) <= ends, "a lease is longer by a lie"
                assert int(act[1]) <= _LEASE_MS
        if honest.gate.passing() == "manage":
            assert lied_to.gate.passing() == "manage", "open by a lie"
        step = rng.choice((0, 100, 1_000, 3_000))
        honest.clock.advance(step)
        lied_to.clock.advance(step)


def _changed(rng: random.Random, rounds: int) -> None:
    """One file after the other is changed, lost, or becomes something else, while the warden runs."""
    mutator = Mutator(rng)
    slots = [slot for slot in Slot if slot is not Slot.LOCK]
    base = dict(rng.choice(ARMED))
    put(base)
    ward = FileWard()
    ward.start()
    for slot in rng.sample(slots, rounds):
        _damage(slot, base, mutator, rng)
        how = rng.randrange(3)
        if how == 0:
            ward.gate.die()
            ward.build()
            ward.start()
        elif how == 1:
            ward.clock.reboot(f"boot-{rng.randint(2, 9)}")
            ward.gate.die()
            ward.build()
            ward.start()
        else:
            ward.warden.reload()
        order = _order(ward)
        if order is not None and order.challenge is not None:
            ward.answer(order, country="FR")
        ward.pass_time(1_000)
        assert ward.gate.passing() == "manage", f"{slot}: the gate is {ward.gate.passing()}"
        canonical.encode(ward.warden.status())
        assert intact(ward.state.boot_rules()), f"{slot}: what boots next is no ruleset"
        _clear(slot)
        put(base)
        ward.warden.reload()
        assert ward.warden.status().policy is not None, f"{slot}: mended, and not in force"
    assert not any(act[0] in ("lease", "remove") for act in ward.gate.acts)


def _damage(slot: Slot, base: dict[Slot, Cell], mutator: Mutator, rng: random.Random) -> None:
    path = layout().path(slot)
    _clear(slot)
    whole = base.get(slot)
    data = whole if isinstance(whole, bytes) else b"{}"
    others = [cell for cell in base.values() if isinstance(cell, bytes)]
    match rng.randrange(8):
        case 0:
            return
        case 1:
            path.symlink_to(rng.choice(("/dev/zero", "/nowhere", str(path))))
        case 2:
            path.mkdir()
        case 3:
            os.mkfifo(path)
        case 4:
            path.write_bytes(data)
            path.chmod(0o666)
        case 5:
            path.write_bytes(rng.choice(others))
            path.chmod(0o600)
        case _:
            path.write_bytes(mutator.json(data, rng.choice(others)))
            path.chmod(0o600)


def _clear(slot: Slot) -> None:
    path = layout().path(slot)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _about_time(rng: random.Random, rounds: int) -> None:
    """The way to honest time servers is in a stranger's hands, and up to one of three lies besides."""
    mutator = Mutator(rng)
    clock = FakeClock()
    servers = [SimulatedServer(f"s{n}.test", f"192.0.2.{n + 1}") for n in range(3)]
    network = SimulatedNetwork(*servers)
    seen: list[bytes] = [b"\0" * 60]

    def on_the_way(data: bytes) -> bytes | None:
        seen.append(data)
        how = rng.random()
        if how < 0.4:
            return data
        return None if how < 0.5 else mutator.raw(data, rng.choice(seen))

    for server in servers:
        server.change = on_the_way
        server.after_ms = rng.choice((1, 1, 40, 600))
    servers[0].offset_ms = rng.choice((0, 3_600_000, -3_600_000, 2**33))
    servers[0].records = rng.choice((None, None, mutator.raw(_RECORDS, _RECORDS)))
    time_of = NetworkTime(
        TrustedTime(servers=tuple(server.listed for server in servers)),
        period_ms=4_000,
        connect=network.connect,
        random=rng.randbytes,
        new_line=itertools.count(1).__next__,
    )
    true = clock.now().utc_ms - clock.now().boot_ms
    for _ in range(rounds):
        now = clock.now()
        heard = list(network.arrived(now))
        if rng.random() < 0.5:
            heard.append(
                Carried(
                    line=rng.randint(1, 40),
                    data=rng.choice(seen)[:CARRIED_BYTES],
                    ended=rng.choice(("", "x")),
                )
            )
        orders = list(time_of.step(now, floor_ms=0))
        for carried in heard:
            orders += time_of.hear(carried, now, floor_ms=0)
        network.order(tuple(orders), now, true_ms=true + now.boot_ms)
        for order in orders:
            canonical.encode(order)
        canonical.encode(time_of.findings())
        anchor = time_of.anchor
        if anchor is not None:
            # what is reckoned in whole milliseconds may be one off
            behind = true + anchor.boot_ms - anchor.utc_ms
            assert -1 <= behind <= anchor.spread_ms + 1, f"the time is {behind} ms off"
        clock.advance(rng.choice((1, 20, 300, 2_000)))


SCENARIOS: Sequence[Scenario] = (
    Scenario(name="lies-about-time", run=_about_time, counts=(1_000, 200_000), life=50),
    Scenario(name="captured-watcher", run=_denied, counts=(200, 30_000), life=40),
    Scenario(name="lies-beside-the-truth", run=_allowed, counts=(300, 30_000), life=150),
    Scenario(name="changing-files", run=_changed, counts=(30, 6_000), life=3),
)
