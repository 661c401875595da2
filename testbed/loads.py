# SPDX-License-Identifier: Apache-2.0
"""Load inside a guest: processes that want CPU, memory or the disk for themselves.  Each ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.failures import MachineFailed
from testbed.machine import Machine

_AT = "/run/load.py"
#: of a small cloud disk, harshly: each write and each fsync is one operation
DISK_OPERATIONS, DISK_BYTES = 100, 8 << 20
_WRITERS = 2
#: everything takes its time on a guest without CPU to spare
_WITHIN_S = 180.0
_BURNERS_OF_A_LOT = 16

PROGRAM = """\
import hashlib, os, sys, time

def cpu(over):
    # what an emulated CPU does in a quarter of the time that interpreting Python takes
    block = bytes(1 << 18)
    while not over():
        hashlib.md5(block).digest()

def memory(over):
    # takes all that there is, and reads files meanwhile, so that the page cache has to be thrown out
    taken, libraries = [], []
    for where, _, names in os.walk("/usr/lib"):
        libraries += [os.path.join(where, name) for name in names]
    def available():
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    number = 0
    while not over():
        if available() > 8 << 10:
            taken.append(bytearray(os.urandom(4096) * 256))
            continue
        for block in taken:
            block[:: 4096] = bytes(256)
        for _ in range(8):
            number += 1
            try:
                with open(libraries[number % len(libraries)], "rb") as file:
                    file.read(1 << 20)
            except OSError:
                pass

def disk(over):
    name = f"/var/lib/load-{os.getpid()}"
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(name)
    block, at = os.urandom(1 << 16), 0
    while not over():
        os.pwrite(file, block, at % (16 << 20))
        os.fsync(file)
        at += len(block)

until = time.monotonic() + float(sys.argv[2])
globals()[sys.argv[1]](lambda: time.monotonic() > until)
"""


@dataclass(frozen=True)
class Load:
    """What is done to a guest.  start: begins it, for so many seconds."""

    name: str
    start: Callable[[Machine, float], None]


def prepare(machine: Machine) -> None:
    """Put the program there; once for each machine."""
    machine.guest.put(_AT, PROGRAM)


def end(machine: Machine) -> None:
    """All load of this machine, at once, and what it did to the disk."""
    if machine.spec.upper:
        throttle(machine, 0, 0)
    machine.guest.sh(
        "pkill -9 -f '[l]oad.py'; while pgrep -f '[l]oad.py' > /dev/null; do sleep 0.1; done", _WITHIN_S
    )


def _none(machine: Machine, seconds: float) -> None:
    pass


def burners(count: int) -> Load:
    """Processes that only compute, each in a session of its own."""

    def start(machine: Machine, seconds: float) -> None:
        for _ in range(count):
            machine.guest.spawn(f"exec /usr/bin/python3 {_AT} cpu {seconds}")

    return Load(f"{count} burner{'s' if count > 1 else ''}", start)


def services(count: int) -> Load:
    """The same as services of systemd that have a weight: from then on CPU is shared out between services."""

    def start(machine: Machine, seconds: float) -> None:
        machine.guest.sh(
            f"for number in $(seq {count}); do systemd-run --quiet --collect --no-block --unit load-$number"
            f" -p CPUWeight=100 /usr/bin/python3 {_AT} cpu {seconds}; done",
            timeout=_WITHIN_S,
            check=True,
        )

    return Load(f"{count} burners, each a service with a weight", start)


def _memory(machine: Machine, seconds: float) -> None:
    # who takes all memory is killed for it, and comes again
    machine.guest.spawn(
        f"echo 1000 > /proc/self/oom_score_adj; end=$(($(date +%s) + {int(seconds)}));"
        f" while [ $(date +%s) -lt $end ]; do /usr/bin/python3 {_AT} memory {seconds}; done"
    )


def _disk(machine: Machine, seconds: float) -> None:
    throttle(machine, DISK_OPERATIONS, DISK_BYTES)
    for _ in range(_WRITERS):
        machine.guest.spawn(f"exec /usr/bin/python3 {_AT} disk {seconds}")


def throttle(machine: Machine, operations: int, size: int) -> None:
    """Of the writable disk, a second; 0, 0 = no bound."""
    upper = 1 + len(machine.spec.layers)  # as testbed.qemu_arguments numbers them
    # device, bytes (both, read, written), operations (both, read, written)
    said = machine.qmp.monitor(f"block_set_io_throttle disk{upper} {size} 0 0 {operations} 0 0")
    if said.strip():
        raise MachineFailed(f"the disk is not throttled: {said.strip()}")


def _everything(machine: Machine, seconds: float) -> None:
    _memory(machine, seconds)
    _disk(machine, seconds)
    burners(_BURNERS_OF_A_LOT).start(machine, seconds)


IDLE = Load("nothing", _none)
MEMORY = Load("no memory left", _memory)
DISK = Load("a slow disk, and two that fsync", _disk)
EVERYTHING = Load("16 burners, no memory left, a slow disk", _everything)
