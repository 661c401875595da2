# SPDX-License-Identifier: Apache-2.0
"""Key establishment with servers that are not chronyd, over TLS in the confined process; no network."""

import os
import select
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.time_servers import Authority
from vmwarden.linux.clock import SystemClock
from vmwarden.linux.tls_session import TlsSession
from vmwarden.model.message import Carried, Carry, Dial
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TimeServer
from vmwarden.ports.tls import Failed, Send
from vmwarden.rules import nts_ke
from vmwarden.rules.nts_ke import AEAD, COOKIE, END, ERROR, NEXT_PROTOCOL, record
from vmwarden.warden.key_establishment import DIAL_MS, TALK_MS, KeyEstablishment, Keys, Trouble

GOOD = record(NEXT_PROTOCOL, b"\0\0") + record(AEAD, b"\0\x0f") + record(COOKIE, b"c" * 100) + record(END)
#: a process of ours answers within this, however loaded the machine
_WITHIN_S = 20.0


class Server:
    """The other end, by Python's ssl, in memory."""

    def __init__(self, authority: Authority, answer: bytes, *, name: str = "ntp.test") -> None:
        self.certificate = authority.issue(name)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        self.context.set_alpn_protocols(["ntske/1"])
        self.asked = b""
        self._answer = answer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._shaken = False

    def hear(self, data: bytes) -> bytes:
        """What goes back.  It answers when it has been asked, and hangs up then."""
        if self._tls is None:
            self._tls = self.context.wrap_bio(self._in, self._out, server_side=True)
        self._in.write(data)
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while not self.asked.endswith(record(END)):
                self.asked += self._tls.read(1000)
            self._tls.write(self._answer)
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass  # more is to come, or it has said its alert
        return self._out.read()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def running() -> Iterator[list[KeyEstablishment]]:
    establishments: list[KeyEstablishment] = []
    yield establishments
    for establishment in establishments:
        establishment.close()


def establish(
    server: Server,
    authority: Authority,
    running: list[KeyEstablishment],
    *,
    name: str = "ntp.test",
    keys: tuple[str, ...] = (),
    chunk: int = 1 << 14,
) -> Keys | Trouble | None:
    """What comes of it; None: nothing within the time that it has."""
    listed = TimeServer(name=name, address="192.0.2.1", keys=keys)
    establishment = KeyEstablishment(listed, authorities=(authority.der,), line=1, connect=TlsSession)
    running.append(establishment)
    clock = SystemClock()
    establishment.begin(clock.now())
    end = time.monotonic() + _WITHIN_S
    began = clock.now()
    # by a clock that stands: only what is said decides
    while establishment.outcome is None and time.monotonic() < end:
        assert establishment.tls is not None
        if not select.select([establishment.tls], [], [], 0.5)[0]:
            return None
        for order in establishment.go_on(began, at_least_ms=0):
            assert isinstance(order, Dial | Carry)
            if isinstance(order, Dial):
                establishment.hear(Carried(line=1), began)
            back = server.hear(order.data)
            for at in range(0, len(back), chunk):
                establishment.hear(Carried(line=1, data=back[at : at + chunk]), began)
    return establishment.outcome


def trouble(outcome: Keys | Trouble | None) -> tuple[str, str]:
    assert isinstance(outcome, Trouble), outcome
    return outcome


@pytest.mark.parametrize("chunk", [1 << 14, 7])
def test_a_good_one(authority: Authority, running: list[KeyEstablishment], chunk: int) -> None:
    server = Server(authority, GOOD)
    outcome = establish(server, authority, running, chunk=chunk)
    assert isinstance(outcome, Keys)
    assert server.asked == nts_ke.request()
    assert (len(outcome.to_server), len(outcome.to_us)) == (32, 32)
    assert outcome.to_server != outcome.to_us
    now_ms = SystemClock().now().utc_ms
    assert outcome.period.holds(now_ms)
    assert not outcome.period.holds(now_ms + 31 * 86_400_000)
    assert not outcome.period.holds(now_ms - 2 * 86_400_000)


def test_a_pinned_key_needs_no_authority(authority: Authority, running: list[KeyEstablishment]) -> None:
    server = Server(authority, GOOD)
    assert isinstance(establish(server, authority, running, keys=(server.certificate.pin,)), Keys)
    other = Server(authority, GOOD)
    outcome = establish(other, authority, running, keys=(server.certificate.pin,))
    assert trouble(outcome)[0] == "time.server.key"
    assert other.asked == b""


def test_only_tls_1_3(authority: Authority, running: list[KeyEstablishment]) -> None:
    server = Server(authority, GOOD)
    server.context.maximum_version = ssl.TLSVersion.TLSv1_2
    outcome = establish(server, authority, running)
    assert trouble(outcome) == ("time.server.tls", "tlsv1 alert protocol version")


def test_only_key_establishment(authority: Authority, running: list[KeyEstablishment]) -> None:
    server = Server(authority, GOOD)
    server.context.set_alpn_protocols(["http/1.1"])
    outcome = establish(server, authority, running)
    assert trouble(outcome) == ("time.server.tls", "the server does not speak NTS-KE over TLS 1.3")
    assert server.asked == b""


def test_the_name_is_checked_with_a_pin_too(authority: Authority, running: list[KeyEstablishment]) -> None:
    for pinned in (False, True):
        server = Server(authority, GOOD, name="other.test")
        keys = (server.certificate.pin,) if pinned else ()
        outcome = establish(server, authority, running, keys=keys)
        assert trouble(outcome)[0] == "time.server.name"


@pytest.mark.parametrize(
    ("has", "listed", "fits"),
    [
        ("NTP.test", "ntp.test", True),
        ("*.ntp.test", "a.ntp.test", True),
        ("*.ntp.test", "a.b.ntp.test", False),
        ("*.ntp.test", "ntp.test", False),
        ("a*.ntp.test", "ab.ntp.test", False),
        ("ntp.test", "ntp.test.example", False),
    ],
)
def test_which_names_fit(
    authority: Authority, running: list[KeyEstablishment], has: str, listed: str, fits: bool
) -> None:
    outcome = establish(Server(authority, GOOD, name=has), authority, running, name=listed)
    assert isinstance(outcome, Keys) is fits
    assert fits or trouble(outcome)[0] == "time.server.name"


def test_an_authority_that_is_not_listed(
    authority: Authority, running: list[KeyEstablishment], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    outcome = establish(Server(Authority(tmp_path / "other", "other"), GOOD), authority, running)
    assert trouble(outcome)[0] == "time.server.authority"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (record(ERROR, b"\0\1") + record(END), ("time.server.refused", "NTS-KE: error 1: bad request")),
        (record(END), ("time.server.garbled", "NTS-KE: the server does not offer NTPv4")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
        (record(99, bytes(30_000), critical=False), ("time.server.garbled", "NTS-KE: more than 16384 bytes")),
    ],
    ids=["refused", "empty", "not NTS", "endless"],
)
def test_answers_that_are_none(
    authority: Authority, running: list[KeyEstablishment], answer: bytes, said: tuple[str, str] | None
) -> None:
    outcome = establish(Server(authority, answer), authority, running)
    if said is None:
        assert outcome is None
        return
    assert trouble(outcome)[0] == said[0]
    assert trouble(outcome)[1].startswith(said[1])


@pytest.mark.parametrize(
    ("heard", "later_ms", "said"),
    [
        ([], DIAL_MS, "time.server.unreachable"),
        ([Carried(line=1, ended="connection failed: ECONNREFUSED")], 0, "time.server.unreachable"),
        ([Carried(line=1)], TALK_MS, "time.server.slow"),
        ([Carried(line=1), Carried(line=1, data=b"HTTP/1.1 400 Bad Request\r\n\r\n")], 0, "time.server.tls"),
        ([Carried(line=1), Carried(line=1, data=b"\x16\x03\x03" + bytes(9))], TALK_MS, "time.server.slow"),
        ([Carried(line=1), Carried(line=1, ended="the server has closed")], 1_000, "time.server.tls"),
        ([Carried(line=1), *[Carried(line=1, data=bytes(16384))] * 5], 0, "time.server.tls"),
    ],
    ids=["nobody", "refused", "mute", "other protocol", "half a record", "hangs up", "flood"],
)
def test_servers_that_do_not_speak_it(
    heard: list[Carried], later_ms: int, said: str, running: list[KeyEstablishment], authority: Authority
) -> None:
    establishment = KeyEstablishment(
        TimeServer(name="ntp.test", address="192.0.2.1"),
        authorities=(authority.der,),
        line=1,
        connect=TlsSession,
    )
    running.append(establishment)
    now = Moment(boot_ms=1_000, utc_ms=0, boot_id="b")
    establishment.begin(now)
    end = time.monotonic() + _WITHIN_S
    while not establishment.go_on(now, at_least_ms=0):
        assert time.monotonic() < end
        assert establishment.tls is not None
        select.select([establishment.tls], [], [], 0.5)
    for carried in heard:
        establishment.hear(carried, now)
    while establishment.outcome is None and later_ms == 0 and time.monotonic() < end:
        assert establishment.tls is not None
        select.select([establishment.tls], [], [], 0.5)
        establishment.go_on(now, at_least_ms=0)
    if later_ms:
        before = Moment(boot_ms=now.boot_ms + later_ms - 1, utc_ms=0, boot_id="b")
        establishment.go_on(before, at_least_ms=0)
        assert establishment.outcome is None
        after = Moment(boot_ms=now.boot_ms + later_ms, utc_ms=0, boot_id="b")
        establishment.go_on(after, at_least_ms=0)
    assert trouble(establishment.outcome)[0] == said


def said(session: TlsSession) -> list[object]:
    found: list[object] = []
    end = time.monotonic() + _WITHIN_S
    while not found and time.monotonic() < end:
        select.select([session], [], [], 0.5)
        found += session.said()
    return found


def test_the_process_is_confined_and_its_end_is_told(authority: Authority) -> None:
    session = TlsSession(name="ntp.test", authorities=())
    try:
        assert isinstance(said(session)[0], Send)
        status = Path(f"/proc/{session.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
        assert sorted(path.name for path in Path(f"/proc/{session.pid}/fd").iterdir()) == ["0", "1", "2"]
        assert Path(f"/proc/{session.pid}/oom_score_adj").read_text() == "1000\n"
        limits = Path(f"/proc/{session.pid}/limits").read_text()
        assert [line.split()[3] for line in limits.splitlines() if line.startswith("Max cpu")] == ["5"]
        os.kill(session.pid, signal.SIGKILL)
        assert said(session) == [Failed("tls", "the process that does TLS has ended")]
        session.receive(b"too late")
        assert session.said() == ()
    finally:
        session.close()
        session.close()


def test_an_authority_that_is_no_certificate() -> None:
    session = TlsSession(name="ntp.test", authorities=(b"no certificate",))
    try:
        assert said(session) == [Failed("authority", "what stands under authorities is no certificate")]
    finally:
        session.close()


@pytest.mark.parametrize(
    "act",
    [
        "open('/dev/null')",
        "import socket",
        "os.kill(os.getpid(), 0)",
        "os.fork()",
        "os.dup(0)",
        "os.stat('/')",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
        "ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
    ],
)
def test_whoever_may_only_compute_is_killed_for_anything_else(act: str) -> None:
    lines = (
        "import ctypes, mmap, os",
        "from vmwarden.linux.seccomp import compute_only",
        "compute_only()",
        "bytes(1 << 22)",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ)",
        "os.write(1, b'computes')",
        act,
        "os.write(1, b' and lives on')",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, timeout=_WITHIN_S, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"computes"), done
