# SPDX-License-Identifier: Apache-2.0
"""A captured watcher: whoever speaks on the watcher's socket as the watcher's user may say anything.

The warden is the real process, in observe mode (it touches nothing), below a folder of its own.  What it
would do is in its status and its journal: never open, for nothing that a captured watcher can say.  With a
gate: tests/vm/test_vm_captured.py.
"""

import base64
import contextlib
import ctypes
import json
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from testbed.provision import Desk, vmwarden
from testbed.warded import host_key
from tests.integration.reachable import reachable_folder
from tests.integration.test_integration_programs import Running, copy_of
from vmwarden.cycle.book import CARRIERS, STATEMENTS
from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.message import (
    MESSAGE_BYTES,
    Carried,
    Declared,
    Event,
    Gather,
    Gathered,
    RawStatement,
    ToWarden,
)
from vmwarden.model.statement import STATEMENT_BYTES, STATEMENT_TYPE, Audience, HostStatement
from vmwarden.rules import canonical, jws
from vmwarden.rules.statement import issue
from vmwarden.store.floors import time_floor
from vmwarden.store.layout import Layout

pytestmark = pytest.mark.root

NOBODY = 65534
#: the place is wanted on a host's signature; the hypervisor would be taken on anybody's word
POLICY = """\
format: vmwarden.policy/1
name: captured
version: 3
vms: ["payments-1"]
valid: {{from: "2026-01-01T00:00Z", until: "2036-01-01T00:00Z"}}
mode: observe
place: {{any_of: [{{country: DE, postal_codes: ["603*"]}}], proof: signed, recheck: 30s}}
host: {{all_of: [{{fact: host.hypervisor, in: [kvm], proof: declared}}], recheck: 30s}}
trust: {{hosts: [{{name: rack-7, key: "{key}"}}]}}
"""
ME = Audience(vm="payments-1", generation=1)
PLACE: dict[str, Any] = {"host_id": "rack-7", "country": "DE", "postal_code": "60311", "hypervisor": "kvm"}
#: 2035-01-01T00:00:00Z
IN_2035 = 2_051_222_400
#: of one flood: seconds here, and by `make soak` messages, within so many seconds
FLOOD_S, SOAK, SOAK_S = 3.0, 100_000, 600.0
#: the warden's heartbeat may not stop for longer; WatchdogSec is 10
GAP_S = 5.0
#: `vmwarden status` waits so long
ANSWER_S = 5.0
#: bytes that a flood may leave in the warden's memory: the book is bounded (cycle.book)
GROWTH_BYTES = 12 << 20
#: records that a watcher may cause in ten minutes: ten kinds (warden.ledger), 60 of each (rules.quota)
RECORDS = 600

#: connects as somebody else and hands the sockets over: the kernel notes who connected
CONNECT = """
import os, socket, sys
over = socket.socket(fileno=int(sys.argv[1]))
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for _ in range(int(sys.argv[3])):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.connect(sys.argv[2])
    socket.send_fds(over, [b"x"], [one.fileno()])
"""


class Heartbeat:
    """systemd's end of the notify socket: when the warden said that it is alive."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self.beats: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def longest_gap(self, since: float) -> float:
        """Seconds without a word, from then until now."""
        marks = [since, *(beat for beat in self.beats if beat > since), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(marks))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                if self._socket.recv(4096) == b"WATCHDOG=1":
                    self.beats.append(time.monotonic())


@dataclass
class Captured:
    """A warden, and all that a captured watcher has."""

    run: Running
    heart: Heartbeat
    key: Ed25519PrivateKey
    opened: list[socket.socket] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.run.process.pid

    def connect(self, count: int = 1) -> list[socket.socket]:
        """Connections by the watcher's user; the warden hears the last one."""
        ours, theirs = socket.socketpair()
        path = self.run.root / "run/vmwarden/watcher.sock"
        with ours, theirs:
            asked = [sys.executable, "-IS", "-c", CONNECT, str(theirs.fileno()), str(path), str(count)]
            subprocess.run(asked, pass_fds=[theirs.fileno()], timeout=30, check=True)
            made = []
            for _ in range(count):
                _, fds, _, _ = socket.recv_fds(ours, 1, 1)
                made.append(socket.socket(fileno=fds[0]))
        for one in made:
            one.settimeout(20)
        self.opened += made
        return made

    def watcher(self) -> tuple[socket.socket, Gather]:
        """A connection, and the warden's first order on it."""
        (link,) = self.connect()
        return link, self.order(link)

    def order(self, link: socket.socket) -> Gather:
        return canonical.decode(link.recv(MESSAGE_BYTES), Gather, limit=MESSAGE_BYTES, what="an order")

    def statement(self, **changes: Any) -> HostStatement:
        """What the trusted host would sign now; static without a nonce."""
        now = int(time.time())
        made = HostStatement(aud=ME, iat=now, exp=now + 120, **PLACE)
        return msgspec.structs.replace(made, **changes)

    def heard(self, link: socket.socket) -> None:
        """Until the warden has taken all that was sent, or has hung up."""
        waiting = ctypes.c_int(1)
        libc = ctypes.CDLL(None, use_errno=True)
        until = time.monotonic() + 60
        while waiting.value and not hung_up(link):
            assert time.monotonic() < until, "the warden does not read"
            libc.ioctl(link.fileno(), ctypes.c_ulong(0x5411), ctypes.byref(waiting))  # SIOCOUTQ
            time.sleep(0.005)

    def rss(self) -> int:
        (line,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(line) * 1024

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def records(self) -> int:
        """Of the journal."""
        status: Any = self.run.status()
        return int(status["journal"]["size"])

    def floor_ms(self) -> int:
        """The time floor on disk."""
        return time_floor(Layout.below(self.run.root))

    def close(self) -> None:
        for link in self.opened:
            link.close()
        self.run.close()
        self.heart.close()


def hung_up(link: socket.socket) -> bool:
    poll = select.poll()
    poll.register(link, 0)
    return bool(poll.poll(0))


def send(link: socket.socket, *messages: ToWarden | bytes) -> None:
    """All of them, or as many as the warden takes before it hangs up."""
    for message in messages:
        try:
            link.send(message if isinstance(message, bytes) else canonical.encode(message))
        except (BrokenPipeError, ConnectionResetError):
            return


def raw(token: str, *, turn: int = 1, source: str = "fw_cfg", frozen: bool = False) -> RawStatement:
    return RawStatement(turn=turn, source=source, jws=token, boot_frozen=frozen)


def piece(subject: Subject, value: Any, *, source: str = "dmi", n: int = 0, **changes: Any) -> Evidence:
    return Evidence(id=f"{source}/{subject}/{n}", subject=subject, source=source, value=value, **changes)


def declared(*evidence: Evidence, source: str = "dmi", turn: int = 1) -> Declared:
    return Declared(turn=turn, source=source, evidence=evidence)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def template(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VM's folder, enrolled, with the policy in force."""
    root = tmp_path_factory.mktemp("template") / "vm"
    root.mkdir(mode=0o700)
    vmwarden("enrol", "--root", root, "--vm", desk.vm, "--owners", desk.owners())
    text = POLICY.format(key=desk.public_line("rack-7"))
    vmwarden("apply", "--root", root, desk.policy(version=3, text=text))
    return root


@contextlib.contextmanager
def running(template: Path, desk: Desk) -> Iterator[Captured]:
    with reachable_folder() as folder:
        root = copy_of(template, folder)
        root.chmod(0o711)
        heart = Heartbeat(folder / "notify")
        words = ("--watcher", "external", "--user", "nobody")
        run = Running(root, *words, env={"NOTIFY_SOCKET": str(heart.address)})
        captured = Captured(run, heart, host_key(desk))
        try:
            run.wait("would take posture")
            yield captured
        finally:
            captured.close()


@pytest.fixture(scope="module")
def shared(template: Path, desk: Desk) -> Iterator[Captured]:
    """One warden for all that is refused; what it recorded is read when all have tried."""
    with running(template, desk) as captured:
        yield captured
        captured.run.close()
        shown = json.loads(vmwarden("journal", "show", "--json", "--root", captured.run.root))
        vmwarden("journal", "verify", "--root", captured.run.root)
    taken = {record["body"]["posture"] for record in shown["records"] if record["kind"] == "decision.changed"}
    assert taken <= {"held", "quarantined"}, taken


@pytest.fixture
def alone(template: Path, desk: Desk) -> Iterator[Captured]:
    with running(template, desk) as captured:
        yield captured


def demand_closed(captured: Captured) -> dict[str, Any]:
    """The warden lives, would not open, and has the policy, the time and the owner that it had."""
    status = captured.run.status()
    decision: Any = status["decision"]
    policy: Any = status["policy"]
    assert captured.run.process.poll() is None
    assert decision["answer"] != "allow", decision
    assert status["posture"] in ("held", "quarantined"), status
    assert (policy["name"], policy["version"], policy["mode"]) == ("captured", 3, "observe")
    assert not status.get("trusted_time"), status
    assert captured.floor_ms() < IN_2035 * 1000
    return status


def test_the_door_that_is_tried_does_open_to_the_trusted_host(alone: Captured) -> None:
    link, order = alone.watcher()
    assert order.challenge is not None
    token = issue(alone.statement(nonce=order.challenge.nonce), alone.key)
    hypervisor = piece(Subject.HYPERVISOR, "kvm", source="virtualization")
    send(link, declared(hypervisor, source="virtualization", turn=order.turn), raw(token, turn=order.turn))

    alone.run.wait_answer("allow")
    assert alone.run.status()["trusted_time"]


# -- what is refused, one by one ---------------------------------------------------------------------

Attack = Callable[[Captured, socket.socket, Gather], None]


def nonce(order: Gather) -> str:
    assert order.challenge is not None
    return order.challenge.nonce


def forged_by_a_stranger(captured: Captured, link: socket.socket, order: Gather) -> None:
    send(link, raw(issue(captured.statement(nonce=nonce(order)), Ed25519PrivateKey.generate())))


def forged_in_the_hosts_name(captured: Captured, link: socket.socket, order: Gather) -> None:
    """The trusted key's name in the header, a stranger's signature over it."""
    honest = issue(captured.statement(nonce=nonce(order)), captured.key)
    signed = honest.rpartition(".")[0]
    signature = Ed25519PrivateKey.generate().sign(signed.encode())
    send(link, raw(f"{signed}.{_base64(signature)}"))


def exchanged_under_the_signature(captured: Captured, link: socket.socket, order: Gather) -> None:
    """A true statement of another VM with our name put in."""
    other = issue(captured.statement(aud=Audience(vm="payments-2", generation=1)), captured.key)
    header, _, signature = other.split(".")
    payload = _base64(canonical.encode(captured.statement()))
    send(link, raw(f"{header}.{payload}.{signature}"))


def without_a_signature(captured: Captured, link: socket.socket, order: Gather) -> None:
    header, payload, _ = issue(captured.statement(nonce=nonce(order)), captured.key).split(".")
    none = _base64(b'{"alg":"none","kid":"","typ":"' + STATEMENT_TYPE.encode() + b'"}')
    send(link, raw(f"{none}.{payload}."), raw(f"{none}.{payload}.{'A' * 86}"), raw(f"{header}.{payload}."))


def signed_for_something_else(captured: Captured, link: socket.socket, order: Gather) -> None:
    payload = canonical.encode(captured.statement(nonce=nonce(order)))
    send(link, raw(jws.sign(payload, captured.key, "JWT")))


def of_another_vm(captured: Captured, link: socket.socket, order: Gather) -> None:
    for aud in (Audience(vm="payments-2", generation=1), Audience(vm="payments-1", generation=2)):
        send(link, raw(issue(captured.statement(aud=aud, nonce=nonce(order)), captured.key)))
        send(link, raw(issue(captured.statement(aud=aud), captured.key), frozen=True))


def with_a_nonce_of_others(captured: Captured, link: socket.socket, order: Gather) -> None:
    for stolen in (
        "x" * 43,
        nonce(order)[::-1],
        nonce(order)[:42] + ("A" if nonce(order)[42] != "A" else "B"),
    ):
        send(link, raw(issue(captured.statement(nonce=stolen), captured.key)))


def fresh_for_a_year(captured: Captured, link: socket.socket, order: Gather) -> None:
    """Even the host's own signature binds a nonce for minutes only."""
    year = int(time.time()) + 31_536_000
    send(link, raw(issue(captured.statement(nonce=nonce(order), exp=year), captured.key)))


def old(captured: Captured, link: socket.socket, order: Gather) -> None:
    past = int(time.time()) - 86_400
    send(link, raw(issue(captured.statement(iat=past, exp=past + 3600), captured.key), frozen=True))


def from_2035(captured: Captured, link: socket.socket, order: Gather) -> None:
    later: dict[str, Any] = {"iat": IN_2035, "exp": IN_2035 + 120}
    send(link, raw(issue(captured.statement(**later, nonce=nonce(order)), Ed25519PrivateKey.generate())))
    send(link, raw(issue(captured.statement(**later, nonce="x" * 43), captured.key)))
    send(link, raw(issue(captured.statement(**later), captured.key), frozen=True))
    clock = piece(Subject.CLOCK, "2035-01-01T00:00:00Z", source="clock", issued_at_ms=IN_2035 * 1000)
    send(link, declared(clock, source="clock"), Gathered(turn=order.turn))


def declared_instead_of_signed(captured: Captured, link: socket.socket, order: Gather) -> None:
    claims = (
        piece(Subject.COUNTRY, "DE"),
        piece(Subject.POSTAL_CODE, "60311"),
        piece(Subject.HYPERVISOR, "kvm"),
        piece(Subject.HOST_ID, "rack-7"),
    )
    send(link, declared(*claims, turn=order.turn), Gathered(turn=order.turn))


def repeated_from_another_connection(captured: Captured, link: socket.socket, order: Gather) -> None:
    """The nonce of a connection that is gone, and of one that an older order had: four are waited for."""
    stolen = nonce(order)
    for _ in range(5):
        link, order = captured.watcher()
    send(link, raw(issue(captured.statement(nonce=stolen), captured.key)))


REFUSED: tuple[tuple[Attack, str], ...] = (
    (forged_by_a_stranger, "statement.unknown-key"),
    (forged_in_the_hosts_name, "statement.bad-signature"),
    (exchanged_under_the_signature, "statement.bad-signature"),
    (without_a_signature, "statement.garbled"),
    (signed_for_something_else, "statement.garbled"),
    (of_another_vm, "statement.other"),
    (with_a_nonce_of_others, "statement.replayed"),
    (fresh_for_a_year, "statement.too-long"),
    (old, "statement.expired"),
    (from_2035, "statement.not-yet-valid"),
    (declared_instead_of_signed, "evidence.too-weak"),
    (repeated_from_another_connection, "statement.replayed"),
)


@pytest.mark.parametrize(("attack", "finding"), REFUSED, ids=lambda it: getattr(it, "__name__", ""))
def test_what_is_not_true_is_told_and_opens_nothing(shared: Captured, attack: Attack, finding: str) -> None:
    link, order = shared.watcher()
    attack(shared, link, order)
    shared.heard(shared.opened[-1])

    status = demand_closed(shared)
    assert status["watcher"] == "connected"  # it may say so; it is not believed
    assert finding in json.dumps(status["decision"])


# -- what it must not say: it is dropped ------------------------------------------------------------------


def proven(proof: Proof, signer: str = "") -> Declared:
    return declared(piece(Subject.COUNTRY, "DE", proof=proof, signer=signer))


DROPPED: dict[str, tuple[ToWarden | bytes, ...]] = {
    **{f"declared as {proof}": (proven(proof),) for proof in Proof if proof is not Proof.DECLARED},
    "a signer's name": (proven(Proof.DECLARED, "SHA256:" + "A" * 43),),
    "for another source": (declared(piece(Subject.COUNTRY, "DE", source="virtio-serial"), source="dmi"),),
    "a long value": (declared(piece(Subject.CITY, "x" * 1000)),),
    "a long list": (declared(piece(Subject.COMPLIANCE, ("x",) * 1000)),),
    "escape sequences": (declared(piece(Subject.CITY, "\x1b]0;pwned\x07")),),
    "half a pair": (b'{"evidence":[{"id":"\\ud800"}],"source":"dmi","turn":1,"type":"declared"}',),
    "a date beyond dates": (declared(piece(Subject.CITY, "x", valid_until_ms=2**62)),),
    "a huge number": (b'{"evidence":[],"source":"dmi","turn":1' + b"0" * 5000 + b',"type":"declared"}',),
    "not a number": (b'{"turn":NaN,"type":"gathered"}', b'{"turn":-1,"type":"gathered"}'),
    "deep": (b'{"type":' + b"[" * 30_000 + b"]" * 30_000 + b"}",),
    "too many pieces": (declared(*(piece(Subject.CITY, "x", n=n) for n in range(65))),),
    "an order": (Gather(turn=1),),  # type: ignore[dict-item]
    "twice in one": (canonical.encode(Gathered(turn=1)) * 2,),
    "half a message": (canonical.encode(proven(Proof.DECLARED))[:-9],),
    "nothing": (b"",),
    "zeros": (b"\0" * MESSAGE_BYTES,),
    "too long a statement": (b'{"boot_frozen":false,"jws":"' + b"A" * (STATEMENT_BYTES + 1) + b'"}',),
    "beyond the bound": (b"x" * (MESSAGE_BYTES + 1), b"x" * 150_000),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_it_must_not_say_ends_the_connection(shared: Captured, name: str) -> None:
    link, _ = shared.watcher()
    send(link, *DROPPED[name])
    until = time.monotonic() + 10
    while not hung_up(link):
        assert time.monotonic() < until, "the warden goes on listening"
        time.sleep(0.01)

    demand_closed(shared)


# -- how it connects -----------------------------------------------------------------------------------


def test_the_last_of_many_connections_is_heard_and_none_is_kept(shared: Captured) -> None:
    before = shared.descriptors()
    links = shared.connect(40)
    assert shared.order(links[-1]).turn
    assert all(hung_up(link) for link in links[:-1])
    for link in links:
        link.close()
    shared.run.wait_status("watcher", None)  # lost is what status leaves out

    assert shared.descriptors() <= before
    demand_closed(shared)


def test_closing_in_the_middle_and_half_closing(shared: Captured) -> None:
    for how in (socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR):
        link, order = shared.watcher()
        send(link, proven(Proof.DECLARED))
        link.shutdown(how)
        send(link, Gathered(turn=order.turn))
        link.close()
    demand_closed(shared)


def test_a_watcher_that_reads_nothing_and_one_that_says_nothing(shared: Captured) -> None:
    link, _ = shared.watcher()
    since = time.monotonic()
    # every event asks for another order; its own socket fills, and the warden does not wait for it
    for n in range(800):
        send(link, Event(kind="neighbour", detail=str(n)))
    shared.heard(link)
    time.sleep(1.0)

    assert shared.heart.longest_gap(since) < GAP_S
    demand_closed(shared)


def test_descriptors_that_are_sent_along_are_not_kept(shared: Captured) -> None:
    link, order = shared.watcher()
    before = shared.descriptors()
    with Path("/dev/null").open("rb") as null:
        for _ in range(50):
            socket.send_fds(link, [canonical.encode(Gathered(turn=order.turn))], [null.fileno()] * 20)
    shared.heard(link)

    assert shared.descriptors() == before
    demand_closed(shared)


# -- as much as it can ---------------------------------------------------------------------------------


def gathered(captured: Captured, order: Gather) -> Iterator[ToWarden]:
    while True:
        yield Gathered(turn=order.turn)
        yield Gathered(turn=2**60, waiting=64)


def events(captured: Captured, order: Gather) -> Iterator[ToWarden]:
    n = 0
    while n := n + 1:
        yield Event(kind=f"k{n}"[:64], detail="x" * 512, strong=True)


def claims(captured: Captured, order: Gather) -> Iterator[ToWarden]:
    """As many as fit into the book, ever different ones, each flapping."""
    subjects = list(Subject)
    n = 0
    while True:
        n += 1
        name = f"source-{n % 60}"
        yield declared(
            *(
                piece(subjects[m % len(subjects)], f"{n}-{m}" + "x" * 100, source=name, n=m)
                for m in range(64)
            ),
            source=name,
            turn=n,
        )
        yield Gathered(turn=n)


def statements(captured: Captured, order: Gather) -> Iterator[ToWarden]:
    """One true static statement, good for a minute, under as many names as the book takes; and wrong ones."""
    now = int(time.time())
    true = issue(captured.statement(country="FR", iat=now, exp=now + 3600), captured.key)
    wrong = issue(captured.statement(iat=now - 9, exp=now - 5), captured.key)
    n = 0
    while True:
        n += 1
        yield raw(true, source=f"s{n % CARRIERS}", turn=n // (CARRIERS * STATEMENTS), frozen=True)
        yield raw(wrong[:-4] + "AAAA", source=f"s{n % 60}", turn=n)


def carried(captured: Captured, order: Gather) -> Iterator[ToWarden]:
    """On lines to time servers that nobody asked for."""
    n = 0
    while n := n + 1:
        yield Carried(line=n, data=b"x" * 10_000)
        yield Carried(line=n, ended="x" * 200)


Flood = Callable[[Captured, Gather], Iterator[ToWarden]]


def flood(captured: Captured, kind: Flood, *, count: int, seconds: float) -> dict[str, float]:
    """Send so many messages, or for so long, as fast as they are taken; how the warden fared meanwhile."""
    link, order = captured.watcher()
    asked: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            began = time.monotonic()
            status_of(captured)
            asked.append(time.monotonic() - began)
            done.wait(0.2)

    beside = threading.Thread(target=ask)
    # what is allocated once, for the first of a kind, is not growth
    messages = kind(captured, order)
    send(link, *islice(messages, 150))
    captured.heard(link)
    memory = captured.rss()
    beside.start()
    since = time.monotonic()
    sent = 0
    try:
        while sent < count and time.monotonic() - since < seconds:
            send(link, *islice(messages, 20))
            sent += 20
        captured.heard(link)
    finally:
        done.set()
        beside.join(60)
    assert not hung_up(link), "the flood was cut off: it measures nothing"
    return {
        "messages": sent,
        "messages_a_second": round(sent / (time.monotonic() - since)),
        "gap_s": round(captured.heart.longest_gap(since), 3),
        "answer_s": round(max(asked), 3),
        "memory_bytes": captured.rss() - memory,
        "records": captured.records(),
    }


def status_of(captured: Captured) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(captured.run.root / "run/vmwarden/control.sock"))
        client.sendall(b'{"request":"status"}\n')
        data = b""
        while more := client.recv(1 << 16):
            data += more
    assert json.loads(data)["schema"] == "vmwarden.status/1"


FLOODS: tuple[Flood, ...] = (gathered, events, claims, statements, carried)


def demand_unharmed(captured: Captured, measured: dict[str, float]) -> None:
    print(json.dumps(measured))
    assert measured["gap_s"] < GAP_S, measured
    assert measured["answer_s"] < ANSWER_S, measured
    assert measured["memory_bytes"] < GROWTH_BYTES, measured
    assert measured["records"] < RECORDS, measured
    demand_closed(captured)
    vmwarden("journal", "verify", "--root", captured.run.root)


@pytest.mark.parametrize("kind", FLOODS, ids=lambda it: it.__name__)
def test_a_flood_costs_the_warden_neither_its_pulse_nor_its_memory(alone: Captured, kind: Flood) -> None:
    demand_unharmed(alone, flood(alone, kind, count=SOAK, seconds=FLOOD_S))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", FLOODS, ids=lambda it: it.__name__)
def test_a_long_flood_neither(alone: Captured, kind: Flood) -> None:
    demand_unharmed(alone, flood(alone, kind, count=SOAK, seconds=SOAK_S))


def test_after_all_of_it_an_honest_watcher_is_heard(alone: Captured) -> None:
    for kind in (gathered, events, claims):
        link, order = alone.watcher()
        messages = kind(alone, order)
        send(link, *(next(messages) for _ in range(200)))
        alone.heard(link)
    demand_closed(alone)
    link, order = alone.watcher()
    token = issue(alone.statement(nonce=nonce(order)), alone.key)
    send(link, raw(token, source="virtio-serial", turn=order.turn))
    alone.heard(link)
    decision: Any = alone.run.status()["decision"]

    # the other fence rests on declared claims, and there it was lied to
    assert {verdict["fence"]: verdict["answer"] for verdict in decision["verdicts"]}["place"] == "allow"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
