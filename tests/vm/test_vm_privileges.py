# SPDX-License-Identifier: Apache-2.0
"""What the two programs may do under systemd: read from their processes, tried from inside their units."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.guest import Guest
from testbed.image import Image
from testbed.machine import Machine
from testbed.provision import Desk, install_layer
from testbed.spec import USER_GUEST, Init, MachineSpec, Port, Smbios, UserNetwork
from testbed.warded import host_key
from vmwarden.model.statement import Audience
from vmwarden.rules.statement_carrier import to_item, to_strings
from vmwarden.testing.host import HostSimulator

pytestmark = pytest.mark.vm

#: `systemd-analyze security` of systemd 252, stated in docs/reference/privileges.md
WATCHER_EXPOSURE, WARDEN_EXPOSURE = 0.9, 1.8
#: CAP_CHOWN (bit 0) and CAP_NET_ADMIN (bit 12): linux/capability.h
WARDEN_CAPABILITIES = 1 << 0 | 1 << 12
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH bound the watcher until it has opened what it needs
WATCHER_BOUND = 1 << 1 | 1 << 2
BOOT_S = 180.0
#: of one command in the guest, on a machine that has other work, too
LONG_S = 180.0
PROBE = Path(__file__).parents[1] / "integration/confined_probe.py"
#: everything that confined_probe knows; all of it works for root in this guest.  namespace comes late: in a
#: user namespace of his own root is no longer root.
TRIES = (
    "shadow", "secret", "environment", "disk", "create", "temporary", "overwrite", "control", "bus",
    "abstract", "ptrace", "signal", "fork", "code", "memfd", "bind", "connect", "elsewhere", "udp",
    "packet", "netlink", "mount", "module", "root", "io_uring", "bpf", "clock", "namespace", "exec",
)  # fmt: skip
#: what the warden needs of these: root's files, its socket, systemd's, netlink, children, programs
WARDENS_OWN = {
    "shadow", "secret", "environment", "temporary", "control", "bus", "abstract", "signal", "fork", "netlink",
    "exec",
}  # fmt: skip
#: the drop-in of docs/reference/privileges.md, for one address
NETWORK = "PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressAllow=127.0.0.1\n"
#: what the warden does, by the same modules, under its unit
NEEDS = """
import sys
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.controls.way_around import WayAround
from vmwarden.linux import bpf, sock_diag
from vmwarden.linux.privileges import stay_runnable
from vmwarden.linux.process import run
from vmwarden.linux.rtnetlink import Links
from vmwarden.linux.systemd import start_unit
print("stays runnable", stay_runnable())
print("around", WayAround().look(()))
links = Links()
lo = next(link.index for link in links.all() if link.name == "lo")
print("tcx", bpf.tcx(lo))
links.switch_off(lo)
links.switch_on(lo)
run(["nft", "-f", "-"], input=b"add table inet probe\\ndelete table inet probe\\n", timeout_s=20)
start_unit("vmwarden-open.target")
open("/var/lib/vmwarden/probe", "x").close()
run(["rm", "/var/lib/vmwarden/probe"], timeout_s=20)
run(["/usr/bin/vmwarden", "--help"], timeout_s=60)
from select import select
from vmwarden.linux.tls_session import TlsSession
tls = TlsSession(name="time.example", authorities=())
select([tls], [], [], 60)
print("tls", *(type(said).__name__ for said in tls.said()))
tls.close()
print("all done")
"""


class Guarded:
    """A systemd guest in which vmwarden is open."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.guest: Guest = machine.guest

    def pid(self, unit: str) -> int:
        return int(self.guest.out(f"systemctl show -P MainPID {unit}"))

    def status(self, unit: str) -> dict[str, str]:
        """/proc/PID/status of a unit's process."""
        lines = self.guest.get(f"/proc/{self.pid(unit)}/status").decode().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def under(self, unit: str, command: str, *, more: str = "") -> str:
        """Run command under the directives of unit, and no others but more; what it prints."""
        self.prepare(unit, command, more=more)
        done = self.guest.sh("systemctl start probe.service", timeout=LONG_S)
        said = self.guest.out("cat /run/probe.out")
        assert done.rc == 0, (done.out, said)
        return said

    def prepare(self, unit: str, command: str, *, more: str = "") -> None:
        """Make probe.service.  The output goes to a file that systemd opens: the unit can make none."""
        text = self.guest.get(f"/etc/systemd/system/{unit}.service").decode()
        ours = (
            r"(?m)^(Type|Restart|WatchdogSec|ExecReload|PartOf|Wants|After|Standard\w+|\w+Directory\w*)=.*\n"
        )
        text = re.sub(ours, "", text)
        text, exchanged = re.subn(r"(?m)^ExecStart=.*$", lambda _: f"ExecStart={command}", text)
        assert exchanged == 1
        text = text.replace(
            "[Service]",
            "[Service]\nType=oneshot\nStandardOutput=file:/run/probe.out\nStandardError=file:/run/probe.out",
        )
        self.guest.put("/run/systemd/system/probe.service", text)
        self.guest.put("/run/systemd/system/probe.service.d/more.conf", f"[Service]\n{more}")
        self.guest.sh("rm -f /run/probe.out; systemctl daemon-reload", LONG_S, check=True)


@pytest.fixture(scope="module")
def guarded(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """It has a channel, and on its two static carriers statements that say whether they were read."""
    here = tmp_path_factory.mktemp("p")
    desk, channel = Desk(here / "d"), here / "c.sock"
    host = HostSimulator(channel, key=host_key(desk), listen=False)
    stranger = HostSimulator(here / "nobody.sock")
    spec = MachineSpec(
        image,
        init=Init.SYSTEMD,
        memory_mib=512,
        layers=(install_layer(), desk.layer(desk.policy(recheck="12s"), here / "vm.squashfs")),
        ports=(Port("org.vmwarden.host.0", channel),),
        networks=(UserNetwork(),),
        fw_cfg={"opt/org.vmwarden/statement": to_item(host.static(Audience(vm="another-vm", generation=1)))},
        smbios=Smbios(oem_strings=to_strings(stranger.static(Audience(vm=desk.vm, generation=1)))),
    )
    with Machine(spec) as machine, host:
        machine.wait_console(r"vmwarden: posture open: allow", BOOT_S)
        yield Guarded(machine)


@pytest.fixture(scope="module")
def given(guarded: Guarded) -> dict[str, Any]:
    """Each of which root can have in this guest."""
    guest = guarded.guest
    guest.put("/opt/probe.py", PROBE.read_bytes())
    guest.sh("mkdir -m 777 /opt/open; touch /opt/open/file; chmod 666 /opt/open/file", check=True)
    guest.spawn(
        "exec python3 -c \"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('\\0probe');"
        ' s.listen(); time.sleep(900)"'
    )
    guest.wait_until("grep -q @probe /proc/net/unix", 30)
    return {
        "path": ["/opt/vmwarden/lib"],
        "user": "vmwarden",
        "warden": guarded.pid("vmwarden"),
        "secret": "/var/lib/vmwarden/identity.key",
        "disk": "/dev/vda",
        "folder": "/opt/open",
        "writable": "/opt/open/file",
        "control": "/run/vmwarden/control.sock",
        "bus": "/run/dbus/system_bus_socket",
        "abstract": "probe",
        "port": 22,
        "address": USER_GUEST.partition("/")[0],
        "module": guest.out("modinfo -n dummy").strip(),
    }


def command(given: dict[str, Any], *, confine: bool) -> str:
    asked = json.dumps({**given, "tries": TRIES, "confine": confine})
    return f"/usr/bin/python3 -IS /opt/probe.py {shlex.quote(asked)}"


def outcomes(said: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in said.splitlines():
        found |= json.loads(line)
    assert set(found) == set(TRIES), said
    return found


@pytest.mark.parametrize(
    ("unit", "most"), [("vmwarden", WARDEN_EXPOSURE), ("vmwarden-watcher", WATCHER_EXPOSURE)]
)
def test_the_exposure_is_what_the_page_says(
    guarded: Guarded, unit: str, most: float, record_property: Callable[[str, object], None]
) -> None:
    said = guarded.guest.out(f"systemd-analyze security --no-pager {unit}.service", LONG_S)
    number = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert number is not None, said
    record_property(f"exposure_{unit}", number[1])
    assert float(number[1]) <= most, said


def test_what_the_processes_have(guarded: Guarded) -> None:
    watcher, warden = guarded.status("vmwarden-watcher"), guarded.status("vmwarden")
    user = int(guarded.guest.out("id -u vmwarden"))

    assert {int(word) for which in ("Uid", "Gid", "Groups") for word in watcher[which].split()} == {user}
    assert {int(watcher[f"Cap{which}"], 16) for which in ("Inh", "Prm", "Eff", "Amb")} == {0}
    assert int(watcher["CapBnd"], 16) == WATCHER_BOUND
    assert {int(warden[f"Cap{which}"], 16) for which in ("Prm", "Eff", "Bnd")} == {WARDEN_CAPABILITIES}
    assert {int(warden[f"Cap{which}"], 16) for which in ("Inh", "Amb")} == {0}
    for status in (watcher, warden):
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")  # a filter: linux/seccomp.h


def test_the_confined_watcher_still_sees_everything(guarded: Guarded) -> None:
    # it made the VM open by the channel; these two came by files of mode 0400
    for finding in ("statement.other-vm", "statement.unknown-key"):
        assert finding in guarded.machine.console()
    assert "the watcher is confined by Landlock" in guarded.guest.out("journalctl -u vmwarden-watcher -o cat")


def test_what_a_captured_watcher_tries(guarded: Guarded, given: dict[str, Any]) -> None:
    free = outcomes(guarded.guest.out(command(given, confine=False), LONG_S))
    assert {name: what for name, what in free.items() if what != "done"} == {}
    said = outcomes(guarded.under("vmwarden-watcher", command(given, confine=True)))
    assert {name for name, what in said.items() if what == "done"} == set(), said


def test_the_watcher_can_be_given_a_network_to_named_addresses(
    guarded: Guarded, given: dict[str, Any]
) -> None:
    said = outcomes(guarded.under("vmwarden-watcher", command(given, confine=True), more=NETWORK))
    # with the VM's network come its abstract sockets; Landlock takes them away from Linux 6.12 on
    assert {name for name, what in said.items() if what == "done"} == {"connect", "udp", "abstract"}, said


def test_what_the_warden_cannot_do_and_what_it_can(guarded: Guarded, given: dict[str, Any]) -> None:
    said = outcomes(guarded.under("vmwarden", command(given, confine=False)))
    assert {name for name, what in said.items() if what == "done"} == WARDENS_OWN, said

    guarded.guest.put("/opt/needs.py", NEEDS)
    done = guarded.under("vmwarden", "/usr/bin/python3 -IS /opt/needs.py").splitlines()
    assert done == ["stays runnable ()", "around ()", "tcx {}", "tls Send", "all done"]


def test_the_boot_check_is_confined_and_works(guarded: Guarded) -> None:
    assert "allow: open" in guarded.under("vmwarden-boot", "/usr/bin/vmwarden boot-check --bound 30s")


def test_at_last_the_warden_powers_off(guarded: Guarded) -> None:
    guarded.prepare("vmwarden", "/usr/bin/systemctl poweroff --no-block")
    guarded.guest.sh("systemctl start --no-block probe.service", LONG_S, check=True)
    guarded.machine.wait_exit(LONG_S)
