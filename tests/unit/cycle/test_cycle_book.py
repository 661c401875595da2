# SPDX-License-Identifier: Apache-2.0
"""What the book keeps of a statement."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.cycle.book import Book
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


def test_a_lapsed_label_costs_the_label_and_nothing_else() -> None:
    book = Book(audience=ME, hosts=(TrustedHost(name="rack-7", key=jws.public_key(KEY).line),))
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
    message = RawStatement(turn=1, source="fw_cfg", jws=issue(said, KEY), boot_frozen=True)
    book.add_statement(message, NOW, utc_ms=NOW.utc_ms)
    kept = book.evidence()

    assert {piece.subject: piece.value for piece in kept if not piece.unavailable} == {
        Subject.HOST_ID: "rack-7",
        Subject.COUNTRY: "DE",
        Subject.COMPLIANCE: ("iso27001",),
    }
    assert [piece.finding for piece in kept if piece.unavailable] == ["statement.label-expired"]
    assert book.failing() == ()
