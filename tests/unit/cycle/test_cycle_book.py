# SPDX-License-Identifier: Apache-2.0
"""What the book keeps of a statement."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.cycle.book import CARRIERS, Book, Overreach
from vmwarden.model.evidence import Subject
from vmwarden.model.message import RawStatement
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import Audience, HostStatement, Label
from vmwarden.rules import jws
from vmwarden.rules.statement import issue
from vmwarden.testing.clock import FakeClock

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
ME = Audience(vm="payments-1", generation=1)
NOW = FakeClock().now()
SECONDS = NOW.utc_ms // 1000


def book() -> Book:
    return Book(audience=ME, hosts=(TrustedHost(name="rack-7", key=jws.public_key(KEY).line),))


def add(to: Book, said: HostStatement, *, source: str = "fw_cfg") -> None:
    message = RawStatement(turn=1, source=source, jws=issue(said, KEY), boot_frozen=True)
    to.add_statement(message, NOW, utc_ms=NOW.utc_ms)


def test_one_true_statement_under_many_names_does_not_pile_up() -> None:
    crowded = book()
    said = HostStatement(aud=ME, iat=SECONDS, exp=SECONDS + 100, host_id="rack-7", country="DE")
    for n in range(CARRIERS):
        add(crowded, said, source=f"s{n}")
    before = crowded.evidence()
    with pytest.raises(Overreach, match="more than"):
        add(crowded, said, source="one-more")

    assert crowded.evidence() == before
    add(crowded, said, source="s0")  # one that is known goes on to be heard


def test_a_lapsed_label_costs_the_label_and_nothing_else() -> None:
    kept_in = book()
    said = HostStatement(
        aud=ME,
        iat=SECONDS,
        exp=SECONDS + 100,
        host_id="rack-7",
        country="DE",
        compliance=(
            Label(name="iso27001", until=SECONDS + 1000),
            Label(name="pci-dss", until=SECONDS - 1),
        ),
    )
    add(kept_in, said)
    kept = kept_in.evidence()

    assert {piece.subject: piece.value for piece in kept if not piece.unavailable} == {
        Subject.HOST_ID: "rack-7",
        Subject.COUNTRY: "DE",
        Subject.COMPLIANCE: ("iso27001",),
    }
    assert [piece.finding for piece in kept if piece.unavailable] == ["statement.label-expired"]
    assert kept_in.failing() == ()
