# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.companion import facts as facts_module
from vmwarden.companion.answer import answer, statement
from vmwarden.companion.facts import HostFacts, merge, of_this_host, until_s
from vmwarden.errors import Malformed, TooLarge, UsageError
from vmwarden.model.evidence import Proof, Subject
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import Audience, Challenge, StatementReply
from vmwarden.rules import canonical, jws
from vmwarden.rules.statement import admit
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.tree import FakeTree

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
ME = Audience(vm="web-1", generation=3)
NOW = FakeClock().now()
FACTS = HostFacts(host_id="h", country="DE", compliance={"iso27001": "2027-01-01"})
VECTORS = Path(__file__).parents[2] / "data" / "protocol" / "version-1.json"


def ask(**changes: object) -> bytes:
    arguments: dict[str, object] = {"aud": ME, "nonce": "n" * 43}
    return canonical.encode(Challenge(**(arguments | changes)))  # type: ignore[arg-type]


def reply(message: bytes) -> bytes | None:
    return answer(message, vm="web-1", facts=FACTS, key=KEY, now_s=NOW.utc_ms // 1000)


def test_an_answer_is_fresh_evidence_to_the_one_who_asked() -> None:
    said = reply(ask())
    assert said is not None
    token = canonical.decode(said, StatementReply, limit=16384, what="reply").jws
    admitted = admit(
        token,
        source="virtio-serial",
        boot_frozen=False,
        hosts=(TrustedHost(name="h", key=jws.public_key(KEY).line),),
        audience=ME,
        nonces=frozenset({"n" * 43}),
        now=NOW,
        utc_ms=None,
    )
    assert admitted.stamped_utc_ms == NOW.utc_ms
    found = {piece.subject: piece for piece in admitted.evidence}
    assert (found[Subject.COUNTRY].value, found[Subject.COUNTRY].proof) == ("DE", Proof.FRESH)
    assert found[Subject.COMPLIANCE].value == ("iso27001",)


@pytest.mark.parametrize(
    "message",
    [
        ask(aud=Audience(vm="web-2", generation=3)),
        b"",
        b"{}",
        b'{"type":"challenge"}',
        ask() + b" ",
        ask(nonce="n" * 2000),
        b"\xff" * 50,
        canonical.encode(StatementReply(jws="x")),
    ],
)
def test_nothing_else_is_answered(message: bytes) -> None:
    assert reply(message) is None


def test_the_vectors_of_the_protocol_are_what_the_code_says() -> None:
    vectors = json.loads(VECTORS.read_text())
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vectors["private_key"]))
    assert jws.public_key(key).line == vectors["public_key"]
    got = answer(
        vectors["challenge"].encode(),
        vm=vectors["vm"],
        facts=HostFacts(**vectors["facts"]),
        key=key,
        now_s=vectors["now"],
    )
    assert got is not None
    assert got.decode() == vectors["reply"]
    token = json.loads(vectors["reply"])["jws"]
    payload, _ = jws.verify(token, {vectors["kid"]: jws.public_key(key)}, "vmwarden-statement+jwt", 8192)
    assert payload.decode() == vectors["payload"]


def test_a_statement_needs_a_host_id() -> None:
    with pytest.raises(UsageError, match="host-id"):
        statement(HostFacts(country="DE"), audience=ME, now_s=1, valid_for_s=2)


def test_facts_from_json_and_yaml() -> None:
    expected = HostFacts(country="NO", postal_code="0150", compliance={"c5": "2027-01-01T00:00Z"})
    as_json = b'{"country":"NO","postal_code":"0150","compliance":{"c5":"2027-01-01T00:00Z"}}'
    as_yaml = b'country: NO\npostal_code: "0150"\ncompliance: {c5: "2027-01-01T00:00Z"}\n'
    assert facts_module.read(as_json, "facts.json") == expected
    assert facts_module.read(as_yaml, "facts.yaml") == expected


@pytest.mark.parametrize(
    ("data", "file"),
    [
        (b"{", "f.json"),
        (b"\xff", "f.json"),
        (b"[" * 1000, "f.json"),
        (b'{"contry":"DE"}', "f.json"),
        (b'{"country":"de"}', "f.json"),
        (b'{"compliance":{"c5":"soon"}}', "f.json"),
        (b'{"compliance":{"c5":"2027-02-30"}}', "f.json"),
        (b"postal_code: 60311", "f.yaml"),
        (b"a: [", "f.yaml"),
        (b"\x00", "f.yaml"),
        (b"- 1", "f.yaml"),
    ],
)
def test_bad_facts_are_refused(data: bytes, file: str) -> None:
    with pytest.raises(Malformed):
        facts_module.read(data, file)


def test_a_postal_code_without_quotes_has_its_mend() -> None:
    with pytest.raises(Malformed) as caught:
        facts_module.read(b"postal_code: 60311", "f.yaml")
    assert "quote it" in str(caught.value.problems[0])


def test_an_endless_facts_file_is_refused() -> None:
    with pytest.raises(TooLarge):
        facts_module.read(b" " * 70_000, "f.json")


def test_what_the_host_says_of_itself_hides_its_machine_id() -> None:
    tree = FakeTree(
        {"/etc/machine-id": b"0123456789abcdef0123456789abcdef\n"},
        links={"/etc/localtime": "/usr/share/zoneinfo/Europe/Berlin"},
    )
    own = of_this_host(tree, "rack-7", NOW)
    assert (own.host_name, own.time_zone) == ("rack-7", "Europe/Berlin")
    assert own.host_id is not None
    assert len(own.host_id) == 32
    assert "0123456789abcdef" not in own.host_id
    assert of_this_host(FakeTree({"/etc/machine-id": b"uninitialized"}), "", NOW) == HostFacts()


def test_the_first_who_says_it_counts() -> None:
    first = HostFacts(country="DE", compliance={"a": "2027-01-01"})
    second = HostFacts(country="NL", city="Delft", compliance={"a": "2028-01-01", "b": "2028-01-01"})
    assert merge(first, second) == HostFacts(
        country="DE", city="Delft", compliance={"a": "2027-01-01", "b": "2028-01-01"}
    )


def test_dates_are_the_first_moment_of_the_day() -> None:
    assert until_s("2027-01-01") == until_s("2027-01-01T00:00Z") == 1_798_761_600
