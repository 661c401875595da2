# SPDX-License-Identifier: Apache-2.0
import itertools

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.errors import UntrustedInput
from vmwarden.model.moment import Moment
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import Audience, HostStatement
from vmwarden.rules import jws, statement
from vmwarden.rules.frame import MESSAGE_BYTES, Receiver, frame

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
TRUSTED = {jws.public_key(KEY).fingerprint: jws.public_key(KEY)}
HOSTS = (TrustedHost(name="h", key=jws.public_key(KEY).line),)
ME = Audience(vm="web-1", generation=1)
TOKEN = statement.issue(HostStatement(aud=ME, iat=1000, exp=1100, host_id="h", nonce="n" * 22), KEY)

messages = st.binary(max_size=60).map(lambda b: b"{" + b.replace(b"\n", b"") + b"}")
garbage = st.binary(max_size=60)


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    at = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in itertools.pairwise([0, *at, len(stream)])]


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(st.binary(max_size=40), max_size=8))
def test_any_split_of_the_stream_gives_the_same_messages(data: st.DataObject, parts: list[bytes]) -> None:
    stream = b"".join(parts) + b'\n{"x":1}\n' + b"y" * data.draw(st.sampled_from([0, MESSAGE_BYTES + 1]))
    whole, split = Receiver(), Receiver()
    expected = whole.feed(stream)
    got = tuple(m for part in data.draw(cuts(stream)) for m in split.feed(part))
    assert got == expected
    assert (split.garbage, split.unfinished) == (whole.garbage, whole.unfinished)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(garbage, messages), max_size=6))
def test_garbage_between_frames_never_loses_a_later_frame(pairs: list[tuple[bytes, bytes]]) -> None:
    receiver = Receiver()
    got = receiver.feed(b"".join(noise + frame(message) for noise, message in pairs))
    remaining = iter(got)
    assert all(message in remaining for _, message in pairs)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
def test_a_token_with_any_byte_changed_is_refused(at: int, flip: int) -> None:
    changed = TOKEN[:at] + chr(ord(TOKEN[at]) ^ flip) + TOKEN[at + 1 :]
    try:
        jws.verify(changed, TRUSTED, "vmwarden-statement+jwt", 8192)
    except UntrustedInput:
        return
    raise AssertionError("accepted")


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=300),
        st.binary(max_size=200).map(lambda p: jws.sign(p, KEY, "vmwarden-statement+jwt")),
    ),
    st.sampled_from([None, 1_050_000]),
)
def test_admitting_is_total(token: str, utc_ms: int | None) -> None:
    admitted = statement.admit(
        token,
        source="fw_cfg",
        boot_frozen=True,
        hosts=HOSTS,
        audience=ME,
        nonces=frozenset(),
        now=Moment(boot_ms=1, utc_ms=2),
        utc_ms=utc_ms,
    )
    assert admitted.evidence
    assert all((piece.value is None) == bool(piece.unavailable) for piece in admitted.evidence)
