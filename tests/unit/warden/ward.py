# SPDX-License-Identifier: Apache-2.0
"""A warden with a fake world around it, for the tests beside this file."""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import ControlFailed
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.escalation import Escalation
from vmwarden.model.installed import Change, Installed, Outcome
from vmwarden.model.message import Declared, Gather, Gathered, RawStatement
from vmwarden.model.moment import Moment
from vmwarden.model.policy import (
    FlowIn,
    Manage,
    Place,
    PlaceEntry,
    Policy,
    Trust,
    TrustedHost,
    Valid,
)
from vmwarden.model.statement import STATEMENT_TYPE, Audience, HostStatement
from vmwarden.ports.tls import Tls
from vmwarden.rules import canonical, jws
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.flows import FakeFlows
from vmwarden.testing.gate import FakeGate
from vmwarden.testing.journal import MemoryJournal
from vmwarden.testing.owners import private_key, public_line
from vmwarden.warden.stamps import Stamps
from vmwarden.warden.warden import Warden

VM = "payments-1"


def no_tls(*, name: str, authorities: tuple[bytes, ...]) -> Tls:
    """For policies that list no time servers."""
    raise AssertionError(f"nobody listed {name}")


def policy(**changes: object) -> Policy:
    """Enforce; Germany, signed by rack-7; manage from one network."""
    plain = Policy(
        format="vmwarden.policy/1",
        name="payments",
        version=7,
        vms=("payments-*",),
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        mode="enforce",
        manage=Manage(in_=(FlowIn(tcp=22, from_="10.20.0.0/16"),)),
        place=Place(any_of=(PlaceEntry(country="DE"),)),
        trust=Trust(hosts=(TrustedHost(name="rack-7", key=public_line("rack-7")),)),
    )
    return msgspec.structs.replace(plain, **changes)


class FakeState:
    """The State of a warden, in memory."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        self.remembered = Escalation()
        self.floor = 0
        self.pending_changes: tuple[Change, ...] = ()
        self.by_commands: tuple[Change, ...] = ()

    def load(self, now: Moment) -> Installed:
        return self.installed

    def settle(self, now: Moment) -> tuple[Change, ...]:
        changes, self.pending_changes = self.pending_changes, ()
        return changes

    def untold(self) -> tuple[Change, ...]:
        return self.by_commands

    def told(self, changes: tuple[Change, ...]) -> bool:
        self.by_commands = ()
        return True

    def escalation(self) -> Escalation:
        return self.remembered

    def remember(self, escalation: Escalation) -> None:
        self.remembered = escalation

    def floor_ms(self) -> int:
        return self.floor

    def raise_floor(self, utc_ms: int) -> None:
        self.floor = utc_ms

    def boot_rules(self) -> str:
        return "table inet vmwarden {}\n"


class FakePower:
    """Counts."""

    def __init__(self) -> None:
        self.offs = 0

    def off(self) -> None:
        self.offs += 1


class FakeServices:
    """Counts; fails where told."""

    def __init__(self) -> None:
        self.opened = 0
        self.failing = False

    def open(self) -> bool:
        if self.failing:
            raise ControlFailed("no bus")
        self.opened += 1
        return True


class Ward:
    """Everything around one warden, and a host that answers as it is told."""

    def __init__(self, in_force: Policy | None = None, **options: object) -> None:
        in_force = policy() if in_force is None else in_force
        outcome = Outcome.ENFORCE if in_force.mode == "enforce" else Outcome.OBSERVE
        self.clock = FakeClock()
        self.gate = FakeGate(self.clock)
        self.flows = FakeFlows()
        self.journal = MemoryJournal()
        self.power = FakePower()
        self.services = FakeServices()
        self.said: list[str] = []
        self.state = FakeState(
            Installed(
                outcome=outcome,
                enrolment=Enrolment(vm=VM, key="ssh-ed25519 AAAA"),
                policy=in_force,
                armed=outcome is Outcome.ENFORCE,
                confirmed=True,
            )
        )
        self._numbers = itertools.count()
        self._options = options
        self.warden = self.build()

    def build(self) -> Warden:
        """A new warden in the same world, as after a restart."""
        self.warden = Warden(
            state=self.state,
            clock=self.clock,
            gate=self.gate,
            flows=self.flows,
            journal=self.journal,
            services=self.services,
            power=self.power,
            nonce=lambda: f"nonce-{next(self._numbers):020d}-of-the-test",
            say=self.said.append,
            **{"stamps": Stamps(connect=no_tls, random=bytes), **self._options},  # type: ignore[arg-type]
        )
        return self.warden

    def start(self) -> "Ward":
        self.warden.start()
        self.warden.watcher_connected()
        return self

    def order(self) -> Gather:
        """The order that is due; fails the test if none is."""
        data = self.warden.gather()
        assert data is not None, "no order is due"
        return canonical.decode(data, Gather, limit=65536, what="order")

    def answer(self, order: Gather, *, by: str = "rack-7", **fields: Any) -> None:
        """The host's fresh statement to that order."""
        assert order.challenge is not None
        jws_text = statement(
            by, self.clock.now().utc_ms // 1000, nonce=order.challenge.nonce, **{"country": "DE", **fields}
        )
        self.warden.receive(
            canonical.encode(
                RawStatement(turn=order.turn, source="virtio-serial", jws=jws_text, boot_frozen=False)
            )
        )
        self.gathered(order)

    def gathered(self, order: Gather) -> None:
        self.warden.receive(canonical.encode(Gathered(turn=order.turn)))

    def declare(self, message: Declared) -> None:
        self.warden.receive(canonical.encode(message))

    def round(self, **fields: Any) -> None:
        """One whole exchange."""
        self.answer(self.order(), **fields)

    def pass_time(self, ms: int, *, step_ms: int = 1_000, each: Callable[[], None] | None = None) -> None:
        """Time goes by with the warden ticking, as its loop does."""
        for _ in range(ms // step_ms):
            self.clock.advance(step_ms)
            if each is not None:
                each()
            self.warden.tick()

    def kinds(self) -> list[str]:
        return [record.kind for record in self.journal.records]

    def findings(self) -> set[str]:
        status = self.warden.status()
        return {f.id for v in status.decision.verdicts for f in v.findings} | {
            f.id for f in status.decision.findings
        }


def statement(by: str, iat: int, *, nonce: str | None = None, vm: str = VM, **fields: Any) -> str:
    """A compact JWS by the host called by; 60 s of life."""
    key: Ed25519PrivateKey = private_key(by)
    noun = msgspec.convert(
        {
            "aud": msgspec.to_builtins(Audience(vm=vm, generation=1)),
            "iat": iat,
            "exp": iat + 60,
            "host_id": by,
            **({} if nonce is None else {"nonce": nonce}),
            **fields,
        },
        HostStatement,
    )
    return jws.sign(canonical.encode(noun), key, STATEMENT_TYPE)
