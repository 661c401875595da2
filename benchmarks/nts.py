# SPDX-License-Identifier: Apache-2.0
"""Network time from three chronyds beside a VM, in namespaces: what it costs to have keys, and to ask.

The warden's and the watcher's part run in one process here, without the socket between them; TLS runs in its
own.  What network time adds to the warden's memory is measured in a process that has imported the warden.

    python -m benchmarks --only nts
"""

import resource
import select
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figure import Figure, median_interval
from benchmarks.site import PYTHON, ROOT, WITHIN_S, Failed
from testbed.time_servers import Authority, Chronyd, Client
from vmwarden.linux.clock import SystemClock
from vmwarden.linux.tls_session import TlsSession
from vmwarden.model.message import Carried
from vmwarden.model.time_servers import TimeServer, TrustedTime
from vmwarden.testing.network import Lan, lan
from vmwarden.warden.key_establishment import KeyEstablishment, Keys
from vmwarden.warden.network_time import LEAST_ROUND_MS
from vmwarden.watcher.relay import Relay

_NAMES = ("a.test", "b.test", "c.test")
#: imports of the warden, then what network time adds: modules, and the first use of AES-SIV
_ADDED = """
import sys
sys.path[:0] = sys.argv[1:]
def pss():
    lines = open("/proc/self/smaps_rollup").read().splitlines()[1:]
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
import vmwarden.warden.program
before = pss()
import vmwarden.warden.network_time, vmwarden.linux.tls_session
from vmwarden.rules import nts
nts.request(key=bytes(32), unique=bytes(32), cookie=bytes(100), held=7, transmit=1, nonce=bytes(16))
print(pss() - before)
"""


def run(rounds: int) -> list[Figure]:
    """Raises Failed, CommandFailed, ControlFailed."""
    with ExitStack() as cleanup:
        network = cleanup.enter_context(lan())
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="vmwarden-bench-")))
        trusted = _servers(network, folder, cleanup)
        keys = [_establish(network, trusted) for _ in range(rounds)]
        first, asked, spread, processor = [], [], [], []
        for _ in range(rounds):
            client = Client(network.vm, trusted)
            cleanup.callback(client.close)
            first.append(client.round(WITHIN_S) * 1000)
            time.sleep(LEAST_ROUND_MS / 1000)
            before = time.process_time()
            asked.append(client.round() * 1000)
            processor.append((time.process_time() - before) * 1000)
            if client.time.anchor is None:
                raise Failed("three honest servers do not agree")
            spread.append(float(client.time.anchor.spread_ms))
    return [
        _figure("NTS: keys of one server, with the process that does TLS", [k[0] for k in keys], "ms"),
        _figure("NTS: CPU of that process", [k[1] for k in keys], "ms"),
        _figure("NTS: PSS of that process, which lasts as long", [k[2] for k in keys], "MB"),
        _figure("NTS: start to the time, keys and stamps of three servers", first, "ms"),
        _figure("NTS: one round of questions, three servers", asked, "ms"),
        _figure("NTS: CPU of one round, warden's and watcher's part", processor, "ms"),
        _figure("NTS: uncertainty of the time", spread, "ms"),
        _figure("NTS: PSS that it adds to a warden that uses it", [_added() for _ in range(5)], "MB"),
    ]


def _figure(name: str, values: list[float], unit: str) -> Figure:
    interval = median_interval(values)
    return Figure(name, interval.median, unit, detail=f"{interval}, {len(values)} times")


def _servers(network: Lan, folder: Path, cleanup: ExitStack) -> TrustedTime:
    authority = Authority(folder)
    listed = []
    for index, name in enumerate(_NAMES):
        address = f"10.99.0.{11 + index}"
        network.peer.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        chronyd = Chronyd(network.peer, folder, address, authority.issue(name))
        cleanup.callback(chronyd.stop)
        chronyd.start()
        listed.append(TimeServer(name=name, address=address))
    return TrustedTime(servers=tuple(listed), authorities=(authority.der,))


def _establish(network: Lan, trusted: TrustedTime) -> tuple[float, float, float]:
    """(milliseconds, CPU milliseconds, MB of PSS) of one key establishment.  Raises Failed."""
    clock, came = SystemClock(), list[Carried]()
    relay = Relay(came.append)
    pss = 0.0
    used = _children_s()
    began = time.monotonic()
    establishment = KeyEstablishment(
        trusted.servers[0], authorities=trusted.authorities, line=1, connect=TlsSession
    )
    establishment.begin(clock.now())
    while establishment.outcome is None:
        poll = select.poll()
        relay.register(poll)
        if establishment.tls is not None:
            poll.register(establishment.tls.fileno(), select.POLLIN)
        for descriptor, _ in poll.poll(100):
            relay.ready(descriptor)
        for carried in came:
            establishment.hear(carried, clock.now())
        came.clear()
        with network.vm.entered():
            for order in establishment.go_on(clock.now(), at_least_ms=0):
                relay.order(order, clock.now())  # type: ignore[arg-type]
    took = (time.monotonic() - began) * 1000
    if not isinstance(establishment.outcome, Keys):
        raise Failed(f"no keys: {establishment.outcome}")
    if isinstance(establishment.tls, TlsSession):
        pss = _pss_mb(establishment.tls.pid)
    establishment.close()
    relay.close()
    return took, (_children_s() - used) * 1000, pss


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _added() -> float:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-c", _ADDED, str(ROOT / "src"), packages],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode:
        raise Failed(f"memory: {done.stderr[-300:]}")
    return int(done.stdout) / 1024
