# SPDX-License-Identifier: Apache-2.0
"""Targets: what the rest of the machine gives: tzdata, /proc, environment, command line, other programs."""

import fcntl
import itertools
import os
import shutil
import zoneinfo
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.fuzz.engine import Target
from tests.fuzz.state_files import layout
from tests.unit.warden.ward import Ward
from vmwarden.cli.main import parser
from vmwarden.errors import CommandFailed, ControlFailed, UntrustedInput, UsageError, WorldError
from vmwarden.linux import accounts, notify, session, successor
from vmwarden.linux.other_ways import other_ways
from vmwarden.linux.process import run
from vmwarden.linux.sockets_in_use import af_xdp
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.handover import HANDOVER_BYTES, GateHandover, Handover, SecondLayerHandover
from vmwarden.model.hours import Extra, Interval, TimeRange
from vmwarden.model.policy import Hours, NamedInterval
from vmwarden.model.posture import Posture
from vmwarden.rules import canonical
from vmwarden.rules.calendar import timetable, tzif
from vmwarden.rules.duration import milliseconds
from vmwarden.rules.smbios import oem_strings, table
from vmwarden.rules.statement_carrier import from_item, from_strings, to_item, to_strings
from vmwarden.testing.state import NOW

_VARIABLE = b"VMWARDEN_HANDOVER"
_UTC_S = NOW.utc_ms // 1000
_YEAR_S = 31_556_952


HOURS = Hours(
    time_zone="Europe/Berlin",
    open=(
        Interval(weekdays=("monday:friday",), times=(TimeRange(start_time="08:00", end_time="18:00"),)),
        Interval(days_of_month=("-1",), times=(TimeRange(start_time="22:00", end_time="03:00"),)),
        "night",
    ),
    intervals=(NamedInterval(name="night", any_of=(Interval(months=("1:3",), years=(2026, "2030:2040")),)),),
    closed_on=("2026-12-25:2026-12-26",),
    extra=(Extra(dates=("2026-12-24",)),),
    drain="30s",
)


def _folder(name: str) -> Path:
    folder = layout().run / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _zone(data: bytes) -> None:
    zone = tzif.parse(data, "Europe/Berlin")
    for utc_s in (0, _UTC_S, 2**31, _UTC_S + 400 * _YEAR_S):
        zone.offset(utc_s)
        # a year, and no more changes than a table can hold
        pieces = sum(1 for _ in zone.stretches(utc_s, utc_s + _YEAR_S))
        assert pieces <= tzif.FILE_BYTES
    rest = timetable.compile(HOURS, {"Europe/Berlin": zone}).rest
    for utc_s in (_UTC_S, _UTC_S + 3_600, _UTC_S + _YEAR_S):
        until = rest.state(utc_s).until
        assert until is None or until > utc_s


@cache
def _zones() -> Sequence[bytes]:
    names = ("Europe/Berlin", "America/Nuuk", "Africa/Casablanca", "Asia/Dubai", "UTC", "Australia/Lord_Howe")
    folder = next(Path(path) for path in zoneinfo.TZPATH if Path(path).is_dir())
    return [(folder / name).read_bytes() for name in names]


def _tzdata(data: bytes) -> None:
    folder = _folder("zoneinfo")
    (folder / "tzdata.zi").write_bytes(data)
    (folder / "Europe").mkdir(exist_ok=True)
    (folder / "Europe" / "Berlin").write_bytes(data)
    zones = Tzdata([folder])
    canonical.encode(zones.version())
    # to be told what a wrong name may have meant takes longer than all the rest
    names = ["Europe/Berlin"] + [data[:40].decode("utf-8", "replace")] * (len(data) % 16 == 0)
    for name in names:
        with suppress(UntrustedInput, WorldError):
            zones.zone(name)


def _protocols(data: bytes) -> None:
    path = _folder("proc") / "protocols"
    path.write_bytes(data)
    assert af_xdp(path) >= 0


def _devices(data: bytes) -> None:
    """What /sys says of three devices; the name of the first and of its driver too."""
    system = _folder("sys")
    shutil.rmtree(system)
    (system / "class" / "net").mkdir(parents=True)
    words = (data + b"\n\n").split(b"\n")
    name = bytes(byte for byte in words[0] if byte not in b"/\0")[:200] or b"virtio0"
    virtio, pci = (
        system / "bus/virtio/devices" / os.fsdecode(name + b"0"),
        system / "bus/pci/devices/0000:00:03.0",
    )
    for device in (virtio, pci):
        device.mkdir(parents=True)
        (device / "driver").symlink_to(os.fsdecode(b"../drivers/" + name))
        (device / "device").write_bytes(words[1])
        (device / "vendor").write_bytes(words[2])
        (device / "class").write_bytes(words[2])
    serial = system / "class/tty/ttyS0"
    serial.mkdir(parents=True)
    (serial / "type").write_bytes(data)
    canonical.encode(other_ways(system, lambda: False))


_PROTOCOLS = (
    b"protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re\n"
    b"XDP       1152      2      -1   NI       0   no   kernel      n  n  n  n  n  n  n  n  n  n  n  n\n"
    b"UNIX-STREAM 1152     41      -1   NI       0   yes  kernel      y  n  n  n  n  n  n  n  n  n  n  y\n"
)


def _process(data: bytes) -> None:
    """Ancestors of whoever runs a command, as root sees them in /proc."""
    proc = _folder("proc")
    shutil.rmtree(proc)
    for number, (pid, parent) in enumerate(((100, 90), (90, 80), (80, 1))):
        folder = proc / str(pid)
        folder.mkdir(parents=True)
        stat = f"{pid} (sh) S {parent} {pid} 90 34816 1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9".encode()
        (folder / "stat").write_bytes(data if number == 1 else stat)
        (folder / "environ").write_bytes(
            data if number else b"SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22\0A=b\0"
        )
    canonical.encode(session.current(proc=proc, pid=100))


def _processes() -> Sequence[bytes]:
    return [
        b"90 (sh) S 80 90 90 34816 1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9",
        b"90 (a) b) c) R 90 90 90 -1 1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551615 9 9",
        b"PATH=/bin\0SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 22\0HOME=/root\0",
    ]


def _environment(data: bytes) -> None:
    """The environment that systemd, or whoever starts the warden, gives it."""
    socket_at = str(_folder("notify") / "nobody").encode()
    parts = (data + b"\n\n").split(b"\n")
    given = {
        b"NOTIFY_SOCKET": parts[0].replace(b"SOCKET", socket_at),
        b"WATCHDOG_USEC": parts[1],
        b"WATCHDOG_PID": parts[2],
    }
    before = dict(os.environb)
    try:
        for name, value in given.items():
            os.environb[name] = value.replace(b"\0", b"")  # no environment holds a NUL
        notify.notify("READY=1")
        period = notify.watchdog_s()
        assert period is None or period >= 0
    finally:
        os.environb.clear()
        os.environb.update(before)


def _inherited(data: bytes) -> None:
    """What a warden left to the program that took its place in the same process: where it lies."""
    named, _, word = data.partition(b"\n")
    memory = os.memfd_create("fuzz", os.MFD_ALLOW_SEALING)
    try:
        os.write(memory, word)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, 0xF)
        os.environb[_VARIABLE] = named.replace(b"MEMORY", b"%d" % memory).replace(b"\0", b"")
        found, _ = successor.inherited(HANDOVER_BYTES)
        assert _VARIABLE not in os.environb
        assert found in (word[:HANDOVER_BYTES], b"")
    finally:
        os.environb.pop(_VARIABLE, None)
        with suppress(OSError):  # whoever reads it closes it
            os.close(memory)


def _handover(data: bytes) -> None:
    """And what it says; it may be another version."""
    left = canonical.decode(data, Handover, limit=HANDOVER_BYTES, what="word")
    ward = Ward()
    ward.warden.start(left)
    ward.pass_time(20_000, step_ms=2_000)
    assert ward.gate.passing() == "manage"
    assert not any(act[0] == "lease" for act in ward.gate.acts)


def _words() -> Sequence[bytes]:
    second = SecondLayerHandover(
        fingerprint="f", made={"": "d", "in_2": "e"}, attached=((2, "eth0", "pci/0"),)
    )
    gate = GateHandover(
        connection=1_000,
        keeper=1_001,
        fingerprint="f",
        rules="r",
        permit="p",
        form="x",
        second=second,
        cut=((2, "eth0"),),
    )
    nouns = (
        Handover(
            format="vmwarden.handover/1",
            boot_id="boot-1",
            posture=Posture.OPEN,
            lease_until_boot_ms=65_000,
            gate=gate,
        ),
        Handover(format="vmwarden.handover/1", boot_id="boot-0", posture=Posture.HELD),
    )
    return [canonical.encode(noun) for noun in nouns]


def _command_line(data: bytes) -> None:
    arguments = [os.fsdecode(word.replace(b"\0", b"")) for word in data.split(b"\n")]
    args = parser("run").parse_args(["run", *arguments])
    if args.duration:
        milliseconds(args.duration)
    with suppress(WorldError):
        accounts.uids([args.user])


def _program(data: bytes) -> None:
    """nft or systemctl says something and fails."""
    try:
        run(["sh", "-c", "cat >&2; exit 1"], timeout_s=5.0, input=data or b" ")
    except CommandFailed as error:
        assert len(str(error)) < 3_000
        canonical.encode(str(error))
        return
    raise AssertionError("it failed, and nobody was told")


def _carriers(data: bytes) -> None:
    for read in (
        lambda: from_strings(oem_strings(data)),
        lambda: from_item(data),
        lambda: from_strings([data]),
    ):
        with suppress(UntrustedInput):
            canonical.encode(read())


def _tokens() -> Sequence[bytes]:
    short, long = "a.b.c", "x" * 3_000
    strings = [text.encode() for token in (short, long) for text in to_strings(token)]
    return [table(strings), table([b"other", *strings[1:]]), to_item(short), strings[0], strings[-1]]


def _names(data: bytes) -> None:
    names = [os.fsdecode(name) for name in data.replace(b"\0", b"").split(b"\n")]
    for name, uid in accounts.uids(itertools.islice(names, 3)).items():
        assert name and uid >= 0


TARGETS = (
    Target(name="tzif", seeds=_zones, run=_zone, raises=(UntrustedInput,), counts=(1_000, 300_000)),
    Target(
        name="tzdata",
        seeds=lambda: [*_zones(), b"# version 2025b\n# ddeps x\n"],
        run=_tzdata,
        counts=(100, 20_000),
    ),
    Target(
        name="proc-protocols",
        seeds=lambda: [_PROTOCOLS],
        run=_protocols,
        raises=(ControlFailed,),
        counts=(700, 200_000),
    ),
    Target(
        name="sys-devices",
        seeds=lambda: [
            b"virtio_net\n0x0001\n",
            b"vfio-pci\n0x1110\n0x1af4",
            b"vfio-pci\n\n0x020000",
            b"ice\n\n0x02",
        ],
        run=_devices,
        counts=(80, 15_000),
    ),
    Target(name="proc-processes", seeds=_processes, run=_process, counts=(80, 15_000)),
    Target(
        name="environment",
        seeds=lambda: [b"SOCKET\n10000000\n%d" % os.getpid(), b"@abstract-of-nobody\n1\n", b"\n\n"],
        run=_environment,
        counts=(700, 80_000),
    ),
    Target(
        name="inherited",
        seeds=lambda: [b"MEMORY,1000,1001\n" + _words()[1], b"999,1000\n{}"],
        run=_inherited,
        counts=(300, 300_000),
    ),
    Target(
        name="handover",
        seeds=_words,
        run=_handover,
        raises=(UntrustedInput,),
        form="json",
        counts=(150, 60_000),
    ),
    Target(
        name="command-line",
        seeds=lambda: [b"--observe\n--for\n60s", b"--watcher\nexternal\n--user\nroot", b"--root\n/tmp"],
        run=_command_line,
        raises=(UsageError, UntrustedInput),
        counts=(60, 10_000),
        # argparse is quadratic in the number of words, and who writes them is root
        within_s=3.0,
    ),
    Target(
        name="programs",
        seeds=lambda: [
            b"/dev/stdin:1:35-35: Error: syntax error, unexpected '}'\n",
            b"\xff" * 3_000,
            b"\n" * 1_000,
        ],
        run=_program,
        counts=(25, 4_000),
    ),
    Target(
        name="accounts",
        seeds=lambda: [b"root\nnobody", b"daemon"],
        run=_names,
        raises=(ControlFailed,),
        counts=(300, 60_000),
    ),
    Target(name="statement-carriers", seeds=_tokens, run=_carriers, counts=(1_000, 200_000)),
)
