# SPDX-License-Identifier: Apache-2.0
"""Targets: what the watcher and the clients of the control socket send, and what a host signs."""

import base64
from typing import Any, cast

import msgspec

from tests.fuzz.engine import Target
from tests.unit.warden.ward import VM, statement
from vmwarden.cycle.book import Book
from vmwarden.errors import UntrustedInput
from vmwarden.model.control import REQUEST_BYTES, Request
from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.message import MESSAGE_BYTES, Declared, Event, Gathered, RawStatement, ToWarden
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import STATEMENT_TYPE, Audience
from vmwarden.rules import canonical, jws
from vmwarden.rules.frame import MESSAGE_BYTES as FRAME_BYTES
from vmwarden.rules.frame import Receiver
from vmwarden.rules.statement import admit
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.owners import private_key, public_line

HOSTS = (TrustedHost(name="rack-7", key=public_line("rack-7")),)
ME = Audience(vm=VM, generation=1)
NOW = FakeClock().now()
IAT = NOW.utc_ms // 1000
NONCE = "nonce-00000000000000000000-of-the-test"
_KIND: Any = ToWarden
EVERYTHING: dict[str, Any] = {
    "country": "DE",
    "subdivision": "DE-HE",
    "city": "Frankfurt",
    "postal_code": "60313",
    "time_zone": "Europe/Berlin",
    "building": "FRA-7",
    "hypervisor": "kvm",
    "hypervisor_version": "8.2",
    "compliance": [{"name": "iso27001", "until": IAT + 86_400}, {"name": "c5", "until": IAT - 1}],
}


def statements() -> tuple[bytes, ...]:
    """Genuine ones, and genuine ones of others."""
    made = (
        statement("rack-7", IAT, nonce=NONCE, country="DE"),
        statement("rack-7", IAT, nonce=NONCE, **EVERYTHING),
        statement("rack-7", IAT, **EVERYTHING),
        statement("rack-7", IAT - 90_000, country="DE"),
        statement("rack-7", IAT, nonce=NONCE, country="DE", vm="payments-2"),
        statement("rack-8", IAT, nonce=NONCE, country="DE"),
    )
    return tuple(token.encode() for token in made)


def messages() -> tuple[bytes, ...]:
    """One of each kind that a watcher sends, and what a captured one would like to."""
    pieces = (
        Evidence(id="dmi/host.product", subject=Subject.PRODUCT, source="dmi", value="KVM"),
        Evidence(id="dmi/host.compliance", subject=Subject.COMPLIANCE, source="dmi", value=("a", "b")),
        Evidence(
            id="dmi/clock.rtc_offset", subject=Subject.RTC_OFFSET, source="dmi", value=-3, boot_frozen=True
        ),
        Evidence(
            id="dmi/place.country", subject=Subject.COUNTRY, source="dmi", unavailable="gone", finding="x.y"
        ),
        Evidence(
            id="dmi/place.country/1",
            subject=Subject.COUNTRY,
            source="dmi",
            value="DE",
            issued_at_ms=IAT * 1000,
            valid_until_ms=IAT * 1000 + 1,
        ),
    )
    lie = msgspec.structs.replace(pieces[0], proof=Proof.FRESH, signer="SHA256:x")
    refused = msgspec.structs.replace(pieces[3], subject=Subject.STATEMENT, finding="statement.none")
    nouns = (
        Declared(turn=1, source="dmi", evidence=pieces),
        Declared(turn=1, source="dmi", evidence=(lie,)),
        Declared(turn=1, source="dmi", evidence=(refused,)),
        *(
            RawStatement(turn=2, source="virtio-serial", jws=token.decode(), boot_frozen=frozen)
            for token, frozen in zip(statements(), (False, True) * 3, strict=True)
        ),
        Gathered(turn=3, waiting=1),
        Event(kind="link.changed", detail="eth0", strong=True),
    )
    return tuple(canonical.encode(noun) for noun in nouns)


def _message(data: bytes) -> None:
    noun = canonical.decode(data, cast("type[ToWarden]", _KIND), limit=MESSAGE_BYTES, what="message")
    book = Book(audience=ME, hosts=HOSTS)
    book.challenge(NONCE, NOW)
    for _ in range(2):
        if isinstance(noun, Declared):
            book.add_declared(noun, NOW)
        elif isinstance(noun, RawStatement):
            book.add_statement(noun, NOW, utc_ms=NOW.utc_ms)
        canonical.encode(book.evidence())
    assert len(book.failing()) <= book.sources()


def _request(data: bytes) -> None:
    canonical.decode(data, Request, limit=REQUEST_BYTES, what="the request")


def _admit(token: str) -> bool:
    admitted = admit(
        token,
        source="virtio-serial",
        boot_frozen=False,
        hosts=HOSTS,
        audience=ME,
        nonces=frozenset((NONCE,)),
        now=NOW,
        utc_ms=NOW.utc_ms,
    )
    canonical.encode(admitted.evidence)
    return any(not piece.unavailable and piece.subject is Subject.COUNTRY for piece in admitted.evidence)


def _statement(data: bytes) -> None:
    if _admit(data.decode("utf-8", "replace")) and data not in statements():
        raise AssertionError("a changed statement was believed")


def _content(data: bytes) -> None:
    # A host that is trusted and not honest: its signature is good whatever it signs.
    _admit(jws.sign(data, private_key("rack-7"), STATEMENT_TYPE))
    header, _, signature = statement("rack-7", IAT).split(".")
    encoded = base64.urlsafe_b64encode(data).decode().rstrip("=")
    _admit(f"{header}.{encoded}.{signature}")
    _admit(f"{encoded}.{header}.{signature}")


def _contents() -> tuple[bytes, ...]:
    parts = [token.split(b".") for token in statements()[:4]]
    whole = [part + b"=" * (-len(part) % 4) for each in parts for part in each[:2]]
    return tuple(base64.urlsafe_b64decode(part) for part in whole)


def _frames(data: bytes) -> None:
    receiver = Receiver()
    for start in range(0, len(data), 700):
        for message in receiver.feed(data[start : start + 700]):
            assert len(message) <= FRAME_BYTES and b"\n" not in message
        assert receiver.unfinished <= FRAME_BYTES


TARGETS = (
    Target(
        name="watcher-message",
        seeds=messages,
        run=_message,
        raises=(UntrustedInput,),
        form="json",
        counts=(1_500, 400_000),
    ),
    Target(
        name="control-request",
        seeds=lambda: tuple(
            canonical.encode(Request(request=word)) for word in ("status", "settled", "reload")
        ),
        run=_request,
        raises=(UntrustedInput,),
        form="json",
        counts=(1_500, 300_000),
    ),
    Target(name="statement", seeds=statements, run=_statement, counts=(1_500, 250_000)),
    Target(name="statement-content", seeds=_contents, run=_content, form="json", counts=(300, 20_000)),
    Target(
        name="channel-frames",
        seeds=lambda: (b'\n{"a":1}\n', b"\n" + b'{"type":"statement","jws":"x"}\n' * 3),
        run=_frames,
        counts=(1_000, 600_000),
    ),
)
