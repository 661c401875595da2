# SPDX-License-Identifier: Apache-2.0
"""Does a lease lapse because the warden does not get to run?  In a guest, under load, for several T.

A systemd guest with vmwarden as it is installed, its own units and a disk of its own, an honest host, one
emulated CPU.  A cell is one T and one load.  A false closing is a lease that ended before its renewal came,
though the verdict stood.  What is left of a lease when it is renewed says how far the warden was from that.

    python -m benchmarks.starvation --seconds 180 --write     (root, QEMU; about two hours; writes the page)
    python -m benchmarks --only starvation --rounds 20        (seconds a cell; some cells only)
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.figure import Figure
from benchmarks.site import ROOT, Failed
from testbed import lease_watch, loads
from testbed.disks import FileSystem, create_disk
from testbed.failures import GuestError
from testbed.image import ensure_image
from testbed.lease_watch import Renewal, Seen
from testbed.loads import Load
from testbed.machine import Machine
from testbed.provision import Desk, install_layer
from testbed.spec import Init, MachineSpec, Port, UserNetwork
from testbed.warded import PORT_NAME, host_key
from vmwarden.testing.host import HostSimulator

PAGE = ROOT / "docs/reference/liveness.md"
_SET = "systemctl set-property --runtime vmwarden.service"
LEASES_S = (1, 2, 5)
LOADS = (
    loads.IDLE,
    loads.burners(1),
    loads.burners(4),
    loads.burners(16),
    loads.services(16),
    loads.MEMORY,
    loads.DISK,
    loads.EVERYTHING,
)
#: A slow core, but the guest's own: what else the host has to do it does not notice (QEMU's icount).
INSTRUCTION_NS = 4
#: on a core that others use, too
SHARED_LOADS = (loads.IDLE, loads.burners(16), loads.services(16))
#: how the warden is run besides as it is installed: how, and back again
SCHEDULINGS = {
    "nice 0": ("renice -n 0 -p {pid}", "renice -n -10 -p {pid}"),
    "SCHED_RR": ("chrt -r -p 10 {pid}", "chrt -o -p 0 {pid}"),
    "CPUWeight=1000": (f"{_SET} CPUWeight=1000", f"{_SET} CPUWeight="),
    "CPUWeight=10000": (f"{_SET} CPUWeight=10000", f"{_SET} CPUWeight="),
}
#: what is tried of them, with the shortest T
VARIANTS = (
    (loads.burners(16), "nice 0"),
    (loads.burners(16), "SCHED_RR"),
    (loads.services(16), "SCHED_RR"),
    (loads.services(16), "CPUWeight=1000"),
    (loads.services(16), "CPUWeight=10000"),
)
#: those of the short form, and its T
SHORT_LEASE_S, SHORT = 1, (loads.burners(16), loads.EVERYTHING)

_CORES = {False: "A core of its own", True: "A core that the host gives to others, too"}
_BEGIN, _END = "<!-- what follows is written by benchmarks.starvation -->", "<!-- until here -->"
_BOOT_S = 240.0
_OPEN = r"vmwarden: posture open: allow"
#: until a load has taken hold, and longer than any cell: it ends when the cell does
_SETTLE_S, _MARGIN_S = 5.0, 240.0
_UPPER_BYTES = 256 << 20
_RECHECK = "30s"


@dataclass(frozen=True)
class Cell:
    """One measurement.

    shared: the guest's CPU is one that the host gives to others, too.  scheduling: of SCHEDULINGS, "" = as
    installed.  held: times that the warden said another posture than open.  restarts: of the warden.
    ran, waited: shares of the time in which the warden ran, and was ready and did not; 0 if it was restarted.
    withheld: share in which the host let the guest's CPU wait for one of its own.
    """

    lease_s: int
    shared: bool
    load: str
    scheduling: str
    seen: Seen
    held: int
    restarts: int
    ran: float
    waited: float
    withheld: float

    @property
    def lapsed(self) -> tuple[Renewal, ...]:
        """Renewals that came too late."""
        return tuple(each for each in self.seen.renewals if each.left_ms < 0)

    @property
    def stalled(self) -> int:
        """Of these, those that would have been in time had the guest been able to run at all."""
        return sum(each.left_ms + each.stalled_ms >= 0 for each in self.lapsed)

    @property
    def least_left_ms(self) -> float:
        """The smallest rest that a renewal found; 0 = one came too late, or none at all."""
        return max(0.0, min((each.left_ms for each in self.seen.renewals), default=0.0))

    @property
    def closed_ms(self) -> float:
        """False closings together."""
        return -sum(each.left_ms for each in self.lapsed)


def run(rounds: int) -> list[Figure]:
    """The short form; rounds: seconds a cell.  Raises Failed."""
    with guest(SHORT_LEASE_S) as machine:
        cells = [measure(machine, SHORT_LEASE_S, Way(load), rounds) for load in SHORT]
    return [
        Figure(
            f"smallest rest of a lease of {cell.lease_s} s: {cell.load}",
            cell.least_left_ms / cell.lease_s / 10,
            "%",
            "> 0",
            len(cell.lapsed) == cell.stalled,
            f"{len(cell.seen.renewals)} renewals in {cell.seen.seconds:.0f} s, {len(cell.lapsed)} too late,"
            f" of these {cell.stalled} because the guest could not run",
        )
        for cell in cells
    ]


@contextlib.contextmanager
def guest(lease_s: int, *, shared: bool = False) -> Iterator[Machine]:
    """A VM with such a lease that has opened."""
    with tempfile.TemporaryDirectory(prefix="vmw-starve-") as folder:
        scratch = Path(folder)
        desk = Desk(scratch / "desk")
        policy = desk.policy(recheck=_RECHECK, place_more=f"gate: {{lease: {lease_s}s}}\n")
        spec = MachineSpec(
            ensure_image(),
            init=Init.SYSTEMD,
            memory_mib=512,
            layers=(install_layer(), desk.layer(policy, scratch / "vm.squashfs")),
            upper=create_disk(scratch / "upper.raw", _UPPER_BYTES, FileSystem.EXT4),
            ports=(Port(PORT_NAME, scratch / "channel"),),
            networks=(UserNetwork(),),
            instruction_ns=None if shared else INSTRUCTION_NS,
            lifetime=4 * 3600.0,
        )
        with (
            Machine(spec) as machine,
            HostSimulator(scratch / "channel", key=host_key(desk), listen=False),
        ):
            machine.wait_console(_OPEN, _BOOT_S)
            machine.guest.sh("systemctl is-system-running --wait", timeout=_BOOT_S)
            loads.prepare(machine)
            yield machine


@dataclass(frozen=True)
class Way:
    """What is done in a cell; scheduling: of SCHEDULINGS, "" = as installed."""

    load: Load
    scheduling: str = ""


def measure(machine: Machine, lease_s: int, way: Way, seconds: float) -> Cell:
    """Seconds: of the guest's clock.  Raises Failed."""
    guest = machine.guest
    before = _warden(machine)
    how, back = SCHEDULINGS.get(way.scheduling, ("true", "true"))
    guest.sh(how.format(pid=before["MainPID"]), timeout=_BOOT_S, check=True)
    lease_watch.begin(guest)
    way.load.start(machine, seconds + _MARGIN_S)
    time.sleep(_SETTLE_S)
    said, began = len(machine.console()), time.monotonic()
    host_before, used_before = _waited_s(machine.pid), _used_s(machine, before["MainPID"])
    seen = lease_watch.watch(guest, seconds)
    host_after, used_after = _waited_s(machine.pid), _used_s(machine, before["MainPID"])
    took = time.monotonic() - began
    loads.end(machine)
    after = _warden(machine)
    guest.sh(back.format(pid=after["MainPID"]), timeout=_BOOT_S, check=True)
    held = len(re.findall(r"vmwarden: posture (?!open)\w+: ", machine.console()[said:]))
    _wait_open(machine)
    if seen.lost:
        raise Failed(f"events were lost under {way.load.name}")
    return Cell(
        lease_s=lease_s,
        shared=machine.spec.instruction_ns is None,
        load=way.load.name,
        scheduling=way.scheduling,
        seen=seen,
        held=held,
        restarts=int(after["NRestarts"]) - int(before["NRestarts"]),
        ran=max(0.0, used_after[0] - used_before[0]) / seen.seconds,
        waited=max(0.0, used_after[1] - used_before[1]) / seen.seconds,
        withheld=(host_after - host_before) / took,
    )


def _warden(machine: Machine) -> dict[str, str]:
    shown = machine.guest.out("systemctl show -p MainPID -p NRestarts vmwarden.service", timeout=120)
    return dict(line.split("=", 1) for line in shown.splitlines())


def _waited_s(pid: int) -> float:
    """Time that QEMU's threads were ready to run and did not (schedstat, second field)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


def _used_s(machine: Machine, pid: str) -> tuple[float, float]:
    """Seconds that a process of the guest has run, and was ready and did not; 0 if there is none any more."""
    try:
        ran, waited, _ = machine.guest.get(f"/proc/{pid}/schedstat").split()
    except GuestError:
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9


def _wait_open(machine: Machine) -> None:
    deadline = time.monotonic() + _BOOT_S
    while '"posture":"open"' not in machine.guest.sh("vmwarden status --json", timeout=120).out:
        if time.monotonic() > deadline:
            raise Failed("the VM did not open again")
        time.sleep(1)


# -- what holds ---------------------------------------------------------------------------------------


def _what_holds(machine: Machine) -> dict[str, str]:
    """Of warden and watcher, as the kernel says."""
    guest = machine.guest
    found: dict[str, str] = {
        "kernel": guest.out("uname -r"),
        "autogroup": guest.out("cat /proc/sys/kernel/sched_autogroup_enabled"),
        "cpu controller": guest.out("cat /sys/fs/cgroup/cgroup.subtree_control"),
    }
    for unit in ("vmwarden", "vmwarden-watcher"):
        pid = guest.out(f"systemctl show -P MainPID {unit}.service")
        status = dict(
            line.split(":", 1) for line in guest.out(f"cat /proc/{pid}/status").splitlines() if ":" in line
        )
        stat = guest.out(f"cat /proc/{pid}/stat").rpartition(")")[2].split()
        found[f"{unit} locked"] = f"{status['VmLck'].strip()} of {status['VmSize'].strip()} mapped"
        found[f"{unit} nice"] = stat[16]
        found[f"{unit} policy"] = {"0": "SCHED_OTHER", "1": "SCHED_FIFO", "2": "SCHED_RR"}[stat[38]]
        found[f"{unit} oom"] = guest.out(f"cat /proc/{pid}/oom_score_adj")
    trial = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)); print('allowed')"
    for name, word in (("yes", "realtime, restricted"), ("no", "realtime, not restricted")):
        said = guest.sh(
            f'systemd-run --quiet --wait --pipe -p RestrictRealtime={name} python3 -c "{trial}" 2>&1',
            timeout=120,
        ).out
        found[word] = said.strip().splitlines()[-1]
    return found


# -- the page -----------------------------------------------------------------------------------------


@dataclass
class Record:
    """What was measured so far.  holds: as the kernel says, by what was asked."""

    cells: list[Cell] = field(default_factory=list)
    holds: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """0, or 1 if a lease lapsed at the longest T."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starvation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="of a cell (default: 180)")
    parser.add_argument("--lease", type=int, nargs="+", choices=LEASES_S, default=LEASES_S, metavar="S")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="cells measured so far; goes on from there")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    args = parser.parse_args(argv)
    record = Record()
    if args.keep is not None and args.keep.exists():
        record = msgspec.json.decode(args.keep.read_bytes(), type=Record)
    for lease_s in args.lease:
        for _ in _measured(lease_s, args.seconds, record):
            if args.keep is not None:
                args.keep.write_bytes(msgspec.json.encode(record))
    page = _page(record)
    print(page)
    if args.write:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
        PAGE.write_text(f"{head}{_BEGIN}\n\n{page}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
    longest = max(LEASES_S)
    return int(any(len(cell.lapsed) > cell.stalled for cell in record.cells if cell.lease_s == longest))


def _measured(lease_s: int, seconds: float, record: Record) -> Iterator[Cell]:
    """The cells of this T that are not in the record; puts them there."""
    done = {(cell.lease_s, cell.shared, cell.load, cell.scheduling) for cell in record.cells}
    for shared in (False, True):
        ways = [Way(load) for load in (SHARED_LOADS if shared else LOADS)]
        if lease_s == min(LEASES_S):
            ways += [Way(load, scheduling) for load, scheduling in VARIANTS]
        missing = [way for way in ways if (lease_s, shared, way.load.name, way.scheduling) not in done]
        if not missing:
            continue
        with guest(lease_s, shared=shared) as machine:
            record.holds = record.holds or _what_holds(machine)
            for way in missing:
                cell = measure(machine, lease_s, way, seconds)
                record.cells.append(cell)
                print(f"{row(cell)} host's load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
                yield cell


def _page(record: Record) -> str:
    cells = sorted(record.cells, key=lambda cell: (cell.shared, cell.lease_s))
    shortest, longest = (pick(cell.seen.seconds for cell in cells) for pick in (min, max))
    kernel = f"{platform.system()} {platform.release()}"
    lines = [
        f"Linux {record.holds['kernel']} in QEMU without acceleration, one CPU, 512 MiB, no swap;"
        f" the host: {kernel}, {os.cpu_count()} CPUs. {datetime.datetime.now(datetime.UTC):%Y-%m-%d}."
        f" {shortest:.0f} to {longest:.0f} s a cell.",
        "",
        "| asked of the running guest | answer |",
        "|---|---|",
        *(f"| {what} | {answer} |" for what, answer in record.holds.items()),
    ]
    for shared, title in _CORES.items():
        of_it = [cell for cell in cells if cell.shared is shared]
        lines += ["", f"### {title}", "", *_summary(of_it), "", *_table(of_it)]
    return "\n".join(lines)


def _summary(cells: list[Cell]) -> Iterator[str]:
    yield "| T | loads | renewals | false closings | smallest rest of a lease |"
    yield "|---|---|---|---|---|"
    installed = [cell for cell in cells if not cell.scheduling]
    for lease_s in sorted({cell.lease_s for cell in installed}):
        of_it = [cell for cell in installed if cell.lease_s == lease_s]
        yield (
            f"| {lease_s} s | {len(of_it)} | {sum(len(cell.seen.renewals) for cell in of_it)}"
            f" | {sum(len(cell.lapsed) for cell in of_it)} | {_rest(of_it)} |"
        )


def _table(cells: list[Cell]) -> Iterator[str]:
    yield (
        "| T | load | renewals | smallest rest | false closings | of these, the guest could not run"
        " | closed together | postures but open | restarts | warden ran, waited | CPU withheld |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    yield from map(row, cells)


def row(cell: Cell) -> str:
    """Of the table."""
    load = f"{cell.load}; warden at {cell.scheduling}" if cell.scheduling else cell.load
    return (
        f"| {cell.lease_s} s | {load} | {len(cell.seen.renewals)} | {_rest([cell])}"
        f" | {len(cell.lapsed)} | {cell.stalled} | {cell.closed_ms:.0f} ms"
        f" | {cell.held} | {cell.restarts} | {cell.ran:.1%}, {cell.waited:.1%} | {cell.withheld:.0%} |"
    )


def _rest(cells: Sequence[Cell]) -> str:
    least = min(cells, key=lambda cell: cell.least_left_ms)
    return f"{least.least_left_ms:.0f} ms, {least.least_left_ms / least.lease_s / 1000:.0%}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
