# SPDX-License-Identifier: Apache-2.0
"""The test bed keeps its own promises."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from testbed.disks import FileSystem, build_layer, create_disk
from testbed.failures import BedError, GuestError, GuestTimeout
from testbed.guest import Guest
from testbed.image import Image
from testbed.loopback import free_port
from testbed.machine import Machine
from testbed.snapshot import Snapshot
from testbed.spec import Disk, Forward, Init, Port, PortMode, Smbios, UserNetwork
from testbed.wire import Wire

pytestmark = pytest.mark.vm

MakeMachine = Callable[..., Machine]
MakeSnapshot = Callable[..., Snapshot]

MIB = 1 << 20
PORT_NAME = "org.vmwarden.example"

HTTP_SERVER = """
import http.server, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the guest")
    def log_message(self, *words):
        pass
threading.Thread(target=http.server.HTTPServer(("", 80), Answer).serve_forever, daemon=True).start()
"""

FETCH_IN_NAMESPACE = """
import urllib.request
print(urllib.request.urlopen("http://10.0.2.15/", timeout=20).read().decode(), end="")
"""

# Sends a byte every 20 ms to whoever connects to port 80.
TICKER = """
import socket, threading, time
def serve():
    connection, _ = socket.create_server(("", 80)).accept()
    while True:
        connection.sendall(b".")
        time.sleep(0.02)
threading.Thread(target=serve, daemon=True).start()
"""

LISTEN_FOR_TICKS = """
import socket, time
connection = socket.create_connection(("10.0.2.15", 80), 10)
assert connection.recv(1) == b"."
print("connected", flush=True)
end = time.monotonic() + 5
while time.monotonic() < end:
    assert connection.recv(100), "closed"
print("still there")
"""


def layer(tmp_path: Path, name: str, files: dict[str, str]) -> Path:
    tree = tmp_path / name
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    return build_layer(tree, tmp_path / f"{name}.squashfs")


def fetch(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return bytes(answer.read())


def both_ways(guest: Guest, connection: socket.socket) -> None:
    """A line to the guest comes back in capitals."""
    guest.py(
        "import os, threading\n"
        "name = [p for p in os.listdir('/sys/class/virtio-ports')\n"
        f"        if open(f'/sys/class/virtio-ports/{{p}}/name').read().strip() == {PORT_NAME!r}][0]\n"
        "fd = os.open('/dev/' + name, os.O_RDWR)\n"
        "def serve():\n"
        "    os.write(fd, os.read(fd, 100).upper())\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
    )
    connection.settimeout(10)
    connection.sendall(b"hello\n")
    assert connection.recv(100) == b"HELLO\n"


class TestBoot:
    def test_layers_lie_over_the_base_the_last_one_topmost(
        self, tmp_path: Path, boot_machine: MakeMachine
    ) -> None:
        low = layer(tmp_path, "low", {"etc/vmwarden/who": "low", "etc/vmwarden/only-low": "low"})
        high = layer(tmp_path, "high", {"etc/vmwarden/who": "high", "etc/hostname": "layered"})
        guest = boot_machine(layers=(low, high)).guest
        assert guest.get("/etc/vmwarden/who") == b"high"
        assert guest.get("/etc/vmwarden/only-low") == b"low"
        assert guest.out("hostname") == "layered"
        assert guest.out("stat -c %u:%g /etc/vmwarden/who") == "0:0"

    def test_upper_disk_keeps_changes_over_a_power_cycle(
        self, tmp_path: Path, boot_machine: MakeMachine
    ) -> None:
        upper = create_disk(tmp_path / "upper", 64 * MIB, FileSystem.EXT4)
        first = boot_machine(upper=upper)
        first.guest.put("/var/lib/kept", "still here")
        first.power_off()
        assert not first.running
        second = boot_machine(upper=upper)
        assert second.guest.get("/var/lib/kept") == b"still here"

    def test_host_speaks_through_fw_cfg_and_smbios(self, tmp_path: Path, boot_machine: MakeMachine) -> None:
        blob = tmp_path / "statement"
        blob.write_bytes(b"signed, by, commas")
        guest = boot_machine(
            fw_cfg={"opt/org.vmwarden/zone": b"Europe/Berlin", "opt/org.vmwarden/statement": blob},
            smbios=Smbios(
                system={"manufacturer": "Rack, Inc.", "product": "Seven", "serial": "S1"},
                chassis={"asset": "7783-7084"},
                oem_strings=("vmwarden:one", "two, with comma"),
            ),
            uuid=UUID("00000000-0000-4000-8000-000000000007"),
            vmgenid=UUID("324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"),
        ).guest
        base = "/sys/firmware/qemu_fw_cfg/by_name"
        assert guest.get(f"{base}/opt/org.vmwarden/zone/raw") == b"Europe/Berlin"
        assert guest.get(f"{base}/opt/org.vmwarden/statement/raw") == b"signed, by, commas"
        assert guest.get(f"{base}/etc/vmgenid_guid/raw")[40:44] == bytes.fromhex("af6e4e32")
        dmi = "/sys/class/dmi/id"
        assert guest.get(f"{dmi}/sys_vendor") == b"Rack, Inc.\n"
        assert guest.get(f"{dmi}/product_serial") == b"S1\n"
        assert guest.get(f"{dmi}/chassis_asset_tag") == b"7783-7084\n"
        assert guest.get(f"{dmi}/product_uuid") == b"00000000-0000-4000-8000-000000000007\n"
        assert b"vmwarden:one\0two, with comma\0" in guest.get("/sys/firmware/dmi/entries/11-0/raw")

    def test_a_guest_that_reboots_or_panics_ends_its_machine(self, boot_machine: MakeMachine) -> None:
        machine = boot_machine()
        machine.guest.spawn("sleep 0.2; echo c > /proc/sysrq-trigger")
        machine.wait_exit(30)
        machine.wait_console("Kernel panic", 5)

    def test_a_boot_that_fails_says_why(self, boot_machine: MakeMachine, tmp_path: Path) -> None:
        not_a_disk = tmp_path / "garbage"
        not_a_disk.write_bytes(b"x" * MIB)
        with pytest.raises(BedError, match="TESTBED_INITRD_FAILED cannot mount"):
            boot_machine(layers=(not_a_disk,)).wait_guest(60)


class TestCalls:
    @pytest.fixture
    def guest(self, fast_machine: MakeMachine) -> Guest:
        return fast_machine().guest

    def test_commands(self, guest: Guest) -> None:
        done = guest.sh("echo out; echo err >&2; exit 3")
        assert (done.rc, done.out) == (3, "out\nerr\n")
        assert guest.out("id -u; pwd; cat") == "0\n/"  # cat ends: its input is empty
        with pytest.raises(GuestError, match="exited 5"):
            guest.sh("exit 5", check=True)

    def test_a_hung_command_does_not_hang_the_agent(self, guest: Guest) -> None:
        started = time.monotonic()
        with pytest.raises(GuestTimeout, match="before it hung"):
            guest.sh("echo before it hung; sleep 1000", timeout=1)
        assert time.monotonic() - started < 6
        assert guest.out("pgrep -c 'sleep' || true") == "0"
        # One that cannot be killed for now is abandoned as well, and what a command leaves behind is no bar.
        with pytest.raises(GuestTimeout):
            guest.py("import time\nprint('here')\ntime.sleep(5)", timeout=0.5)
        assert guest.sh("sleep 1000 & echo started", timeout=5).out == "started\n"

    def test_calls_from_several_threads_run_side_by_side(self, guest: Guest) -> None:
        slow = threading.Thread(target=guest.sh, args=("sleep 4",))
        slow.start()
        started = time.monotonic()
        assert guest.out("echo quick") == "quick"
        assert time.monotonic() - started < 3
        slow.join()

    def test_python(self, guest: Guest) -> None:
        guest.py("answer = 42")
        assert guest.py("print(answer)") == "42\n"
        with pytest.raises(GuestError, match="ZeroDivisionError"):
            guest.py("1 / 0")

    def test_files_of_any_size(self, guest: Guest) -> None:
        for size in (0, 10, 256 << 10, (1 << 20) + 1):
            data = os.urandom(size)
            guest.put("/tmp/new/directory/file", data, mode=0o600)
            assert guest.get("/tmp/new/directory/file") == data
        assert guest.out("stat -c %a /tmp/new/directory/file; ls /tmp/new/directory") == "600\nfile"
        with pytest.raises(GuestError, match="FileNotFoundError"):
            guest.get("/nowhere")

    def test_background(self, guest: Guest) -> None:
        background = guest.spawn("echo begun; trap 'exit 7' TERM; sleep 1000 & wait")
        guest.wait_until(f"grep begun {background.log}", timeout=10)
        assert guest.poll(background) is None
        guest.sh(f"kill -TERM {background.pid}", check=True)
        guest.wait_until(f"! test -e /proc/{background.pid}", timeout=10)
        assert guest.poll(background) == 7
        guest.sh(f"kill -KILL -- -{background.pid}")

    def test_agent_is_started_again(self, guest: Guest) -> None:
        guest.py("import os, threading; threading.Timer(0.2, os._exit, (9,)).start()")
        time.sleep(0.5)
        assert guest.ping(20) > 0

    def test_clock_and_randomness_of_a_clone(self, guest: Guest) -> None:
        guest.set_clock(2_000_000_000)
        assert guest.out("date -u +%Y") == "2033"
        guest.reseed()


class TestRestore:
    def test_within_three_seconds_with_forwards_of_its_own(
        self, fast_machine: MakeMachine, fast_snapshot: MakeSnapshot
    ) -> None:
        port = free_port()
        fields = {"networks": (UserNetwork(forwards=(Forward(port, 80),)),)}
        fast_snapshot(**fields)
        started = time.monotonic()
        machine = fast_machine(**fields)
        machine.guest.ping()
        assert time.monotonic() - started < 3
        machine.guest.py(HTTP_SERVER)
        assert fetch(port) == b"from the guest"

    def test_clones_do_not_see_each_other(self, fast_machine: MakeMachine) -> None:
        fast_machine().guest.put("/etc/mark", "x")
        assert fast_machine().guest.sh("test -e /etc/mark").rc == 1

    def test_writable_disk_of_the_test(self, tmp_path: Path, fast_machine: MakeMachine) -> None:
        disk = create_disk(tmp_path / "data", 32 * MIB)
        with disk.open("r+b") as file:
            file.write(b"written by the host")
        guest = fast_machine(disks=(Disk(disk, "data"),)).guest
        device = guest.disk("data")
        assert guest.out(f"head -c 19 {device}") == "written by the host"
        guest.sh(f"echo written by the guest | dd of={device} oflag=direct,sync conv=sync bs=512", check=True)
        assert disk.read_bytes().startswith(b"written by the guest\n")

    def test_tap_in_place_of_the_user_network(self, fast_machine: MakeMachine) -> None:
        with Wire() as wire:
            machine = fast_machine(networks=(wire.tap(),))
            machine.guest.ping()
            machine.guest.py(HTTP_SERVER)
            done = subprocess.run(
                wire.inside(sys.executable, "-c", FETCH_IN_NAMESPACE),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            machine.close()
        assert done.stdout == "from the guest", done.stderr

    def test_live_migration_with_an_open_connection(
        self, tmp_path: Path, fast_machine: MakeMachine, fast_snapshot: MakeSnapshot
    ) -> None:
        with Wire() as wire:
            here, there = wire.tap(), wire.tap()
            source = fast_machine(networks=(here,))
            source.guest.py(TICKER)
            snapshot = fast_snapshot(networks=(here,))
            uri = f"unix:{tmp_path}/m"
            with Machine(replace(snapshot.spec, networks=(there,), incoming=uri)) as target:
                client = subprocess.Popen(
                    wire.inside(sys.executable, "-c", LISTEN_FOR_TICKS), stdout=subprocess.PIPE, text=True
                )
                try:
                    assert client.stdout is not None
                    assert client.stdout.readline() == "connected\n"
                    source.migrate(uri)
                    target.wait_running()
                    said, _ = client.communicate(timeout=30)
                finally:
                    client.kill()
                    client.wait(10)
            source.close()
        assert said == "still there\n"

    def test_topology_is_fixed(self, fast_snapshot: MakeSnapshot) -> None:
        with pytest.raises(BedError, match="memory_mib"):
            fast_snapshot().restored_spec(memory_mib=512)


class TestWorld:
    def test_nftables(self, fast_machine: MakeMachine) -> None:
        guest = fast_machine().guest
        guest.put(
            "/tmp/rules",
            "table inet t { set s { type ipv4_addr; timeout 5s; }\n"
            "chain c { type filter hook input priority 0; "
            "ct state established accept; limit rate 5/second log; fib saddr . iif oif missing drop; "
            "tcp dport 9 reject with tcp reset\n}\n}\n",
        )
        guest.sh("nft -f /tmp/rules", check=True)
        assert "reject with tcp reset" in guest.out("nft list table inet t")

    def test_luks(self, tmp_path: Path, fast_machine: MakeMachine) -> None:
        disk = create_disk(tmp_path / "luks", 64 * MIB)
        guest = fast_machine(disks=(Disk(disk, "vault"),)).guest
        device = guest.disk("vault")
        guest.put("/tmp/key", b"secret", mode=0o400)
        kdf = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
        for step in (
            f"cryptsetup luksFormat -q {kdf} --key-file /tmp/key {device}",
            f"cryptsetup open --disable-keyring --key-file /tmp/key {device} vault",
            "mke2fs -q /dev/mapper/vault && mount /dev/mapper/vault /mnt",
            "echo inside > /mnt/f && umount /mnt",
            "cryptsetup close vault",
        ):
            guest.sh(step, check=True)
        assert disk.read_bytes()[:6] == b"LUKS\xba\xbe"

    def test_serial_port_with_a_listener_on_the_host(self, tmp_path: Path, fast_machine: MakeMachine) -> None:
        path = tmp_path / "companion"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(10)
            machine = fast_machine(ports=(Port(PORT_NAME, path, PortMode.CONNECT),))
            connection, _ = listener.accept()
            with connection:
                both_ways(machine.guest, connection)

    def test_serial_port_with_a_client_on_the_host(self, tmp_path: Path, fast_machine: MakeMachine) -> None:
        path = tmp_path / "port"
        machine = fast_machine(ports=(Port(PORT_NAME, path),))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            both_ways(machine.guest, connection)

    def test_host_reaches_in_and_the_guest_reaches_nothing(self, fast_machine: MakeMachine) -> None:
        port = free_port()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            outside = listener.getsockname()[1]
            guest = fast_machine(networks=(UserNetwork(forwards=(Forward(port, 80),)),)).guest
            guest.py(HTTP_SERVER)
            assert fetch(port) == b"from the guest"
            # 10.0.2.2 is the host's loopback, if it were allowed.
            verdict = guest.py(
                "import socket\n"
                f"try: socket.create_connection(('10.0.2.2', {outside}), 3); print('reached')\n"
                "except OSError as problem: print('blocked', problem)"
            )
            assert verdict.startswith("blocked")

    def test_pause(self, fast_machine: MakeMachine) -> None:
        machine = fast_machine()
        guest = machine.guest
        machine.pause()
        with pytest.raises(GuestTimeout):
            guest.ping(1)
        machine.resume()
        assert guest.ping() > 0

    def test_figures_and_cleanliness(self, fast_machine: MakeMachine) -> None:
        machine = fast_machine()
        assert machine.cpu_seconds() > 0
        assert machine.rss_bytes() > 50 * MIB
        pid, directory = machine.pid, machine.directory
        machine.close()
        assert not Path(f"/proc/{pid}").exists()
        assert not directory.exists()

    def test_dies_with_the_python_that_started_it(self, image: Image) -> None:
        code = (
            "import threading, time\n"
            "from pathlib import Path\n"
            "from testbed.image import Image\n"
            "from testbed.machine import Machine\n"
            "from testbed.spec import MachineSpec\n"
            "def start():\n"
            f"    machine = Machine(MachineSpec(Image(Path({str(image.directory)!r}))))\n"
            "    print(machine.pid, machine.directory, flush=True)\n"
            "thread = threading.Thread(target=start)\n"
            "thread.start()\n"
            "thread.join()\n"
            "time.sleep(1)\n"
            "print('thread gone', flush=True)\n"
            "time.sleep(60)\n"
        )
        repository = Path(__file__).parents[2]
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=repository
        )
        try:
            assert child.stdout is not None
            pid, directory = child.stdout.readline().split()
            assert child.stdout.readline() == "thread gone\n"
            # The thread that asked for the machine is gone: no reason to die.
            assert Path(f"/proc/{pid}/exe").resolve().name == "qemu-system-x86_64"
        finally:
            child.kill()
            child.wait(10)
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}/exe").exists()
        shutil.rmtree(directory)

    def test_a_machine_that_outlives_its_time_is_ended(self, fast_machine: MakeMachine) -> None:
        machine = fast_machine(lifetime=2.0)
        machine.wait_exit(10)


class TestSystemd:
    def test_boots_to_running_with_sshd_and_ordered_network(
        self, tmp_path: Path, boot_machine: MakeMachine
    ) -> None:
        key = tmp_path / "key"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=20
        )
        # What stands before network-pre.target must find the card without an address.
        early = (
            "[Unit]\nDefaultDependencies=no\nBefore=network-pre.target\nWants=network-pre.target\n"
            "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
            "ExecStart=/bin/sh -c 'ip -4 -o address show dev eth0 > /run/early'\n"
        )
        tree = tmp_path / "tree"
        wants = tree / "etc/systemd/system/sysinit.target.wants"
        wants.mkdir(parents=True)
        (wants.parent / "early.service").write_text(early)
        (wants / "early.service").symlink_to("../early.service")
        (tree / "root/.ssh").mkdir(parents=True, mode=0o700)
        (tree / "root/.ssh/authorized_keys").write_bytes(key.with_suffix(".pub").read_bytes())
        for path in (tree / "root", tree / "root/.ssh"):
            path.chmod(0o700)
        port = free_port()
        machine = boot_machine(
            init=Init.SYSTEMD,
            layers=(build_layer(tree, tmp_path / "layer"),),
            networks=(UserNetwork(forwards=(Forward(port, 22),)),),
        )
        guest = machine.guest
        assert guest.sh("systemctl is-system-running --wait", timeout=120).out == "running\n"
        assert guest.get("/run/early") == b""
        assert "10.0.2.15" in guest.out("ip -4 -o address show dev eth0")
        assert guest.out("systemctl is-enabled nftables.service || true") == "disabled"
        options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
        ]
        done = subprocess.run(
            ["ssh", *options, "-i", str(key), "-p", str(port), "root@127.0.0.1", "id -u"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "0\n", done.stderr

    def test_agent_answers_in_emergency_mode(self, boot_machine: MakeMachine) -> None:
        guest = boot_machine(init=Init.SYSTEMD, cmdline=("systemd.unit=emergency.target",)).guest
        assert guest.out("systemctl is-active emergency.target || true") in ("active", "inactive")
        assert guest.out("systemctl is-active multi-user.target || true") == "inactive"

    def test_restores_as_quickly(self, systemd_machine: MakeMachine) -> None:
        systemd_machine().close()
        started = time.monotonic()
        guest = systemd_machine().guest
        guest.ping()
        assert time.monotonic() - started < 5
        assert guest.out("systemctl is-system-running") == "running"
