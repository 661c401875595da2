# SPDX-License-Identifier: Apache-2.0
"""What the acts are played with: a host's companion, a VM with a web server and an encrypted volume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from testbed.disks import build_layer, copy_sparse, create_disk
from testbed.image import Image, cache_directory
from testbed.loopback import free_port
from testbed.machine import Machine
from testbed.provision import REPOSITORY, Desk, install_layer
from testbed.spec import Disk, Forward, Init, MachineSpec, Port, UserNetwork
from testbed.warded import COMMANDS

PORT_NAME = "org.vmwarden.host.0"
SECRET = "the data of payments-1"
FRANKFURT = {
    "country": "DE",
    "city": "Frankfurt am Main",
    "postal_code": "60314",
    "time_zone": "Europe/Berlin",
}
ASHBURN = {"country": "US", "city": "Ashburn", "postal_code": "20147", "time_zone": "America/New_York"}

_SERVE = (sys.executable, "-m", "vmwarden.cli.main", "companion", "serve", "--connect")
_VOLUME_BYTES = 48 << 20
_KEY = hashlib.sha256(b"vmwarden demo volume").digest()
_MAKE_VOLUME = """
set -e
disk=$(grep -l '^data$' /sys/block/vd*/serial | cut -d/ -f4)
cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/$disk /tmp/key
cryptsetup open --disable-keyring --key-file /tmp/key /dev/$disk data
mke2fs -q -t ext4 -O ^has_journal /dev/mapper/data
mount /dev/mapper/data /mnt
cp /tmp/index.html /mnt/index.html
umount /mnt
cryptsetup close data
sync
"""
_FILES = {
    "usr/local/lib/web.py": """\
import http.server, time
class Web(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *given):
        super().__init__(*given, directory="/srv/data")
    def do_GET(self):
        if self.path != "/without-end":
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(4096))
            time.sleep(0.02)
http.server.ThreadingHTTPServer(("", 80), Web).serve_forever()
""",
    "etc/crypttab": "data /dev/disk/by-id/virtio-data /etc/data.key luks,noauto\n",
    "etc/systemd/system/srv-data.mount": """\
[Unit]
Description=Data of this VM, behind the warden
Requires=systemd-cryptsetup@data.service
After=systemd-cryptsetup@data.service
[Mount]
What=/dev/mapper/data
Where=/srv/data
Type=ext4
[Install]
WantedBy=vmwarden-open.target
""",
    "etc/systemd/system/web.service": """\
[Unit]
Description=What this VM serves
RequiresMountsFor=/srv/data
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/web.py
[Install]
WantedBy=vmwarden-open.target
""",
}


class Companion:
    """`vmwarden companion serve` as an operator runs it, for one VM, by the key of rack-7."""

    def __init__(self, desk: Desk, port: Path) -> None:
        """port: where QEMU's end of the channel listens."""
        self._facts = desk.directory / "facts.json"
        self._key = desk.key("rack-7")
        self._vm = desk.vm
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def be_in(self, place: dict[str, str]) -> None:
        """From now on the host says that it is there."""
        self._facts.write_text(json.dumps({"host_id": "rack-7", "hypervisor": "qemu", **place}))
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def __enter__(self) -> Companion:
        self._process = subprocess.Popen(
            [*_SERVE, "--key", self._key, "--facts", self._facts, "--vm", self._vm, "--socket", self._port],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait(5)


class ServingVm:
    """A systemd guest with vmwarden, an HTTP service and a LUKS volume that both hang from the warden."""

    def __init__(self, machine: Machine, *, web_port: int, ssh_port: int) -> None:
        self.machine = machine
        self.web_port = web_port
        self._ssh_port = ssh_port
        self._learnt = False

    def page(self, timeout_s: float = 2.0) -> str | None:
        """What the web service answers through the forwarded port; None when nothing comes."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/", timeout=timeout_s) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError, ConnectionError):
            return None

    def ssh_banner(self, timeout_s: float = 20.0) -> str:
        """The first line of sshd through its forwarded port, "" when nothing comes."""
        try:
            with socket.create_connection(("127.0.0.1", self._ssh_port), timeout_s) as link:
                link.settimeout(timeout_s)
                return link.recv(64).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def volume_open(self) -> bool:
        """Whether the plain text of the volume can be read in the guest."""
        return self.machine.guest.sh("test -b /dev/mapper/data && test -r /srv/data/index.html").rc == 0

    def vmwarden(self, *words: str) -> str:
        """What a command says in the guest, run in a Python that is up already: quick but for the first."""
        if not self._learnt:
            self.machine.guest.py(COMMANDS, 90)
            self._learnt = True
        return self.machine.guest.py(f"print(said(*{words!r})[1], end='')", 120)

    def status(self) -> dict[str, Any]:
        """vmwarden status --json, in the guest."""
        return dict(json.loads(self.vmwarden("status", "--json")))

    def clock(self) -> float:
        """The guest's, seconds since 1970."""
        return float(self.machine.guest.py("import time; print(time.time())"))


def data_volume(image: Image) -> Path:
    """A raw disk with the encrypted volume; made once, in a guest, because the host may lack dm-crypt."""
    out = cache_directory().parent / "demo-volume-1.raw"
    if out.exists():
        return out
    unfinished = out.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    create_disk(unfinished, _VOLUME_BYTES)
    with Machine(MachineSpec(image, disks=(Disk(unfinished, "data"),))) as machine:
        machine.guest.put("/tmp/key", _KEY, mode=0o600)
        machine.guest.put("/tmp/index.html", f"{SECRET}\n")
        machine.guest.sh(_MAKE_VOLUME, timeout=180, check=True)
        machine.power_off()
    unfinished.replace(out)
    return out


def vm_layer(desk: Desk, policy: Path, out: Path) -> Path:
    """The VM's own files: enrolled, policy confirmed, services hanging from the warden."""
    with desk.tree(policy) as tree:
        wants = tree / "etc/systemd/system/vmwarden-open.target.wants"
        wants.mkdir(parents=True)
        for path, text in _FILES.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
            if path.startswith("etc/systemd"):
                (wants / Path(path).name).symlink_to(Path("..") / Path(path).name)
        key = tree / "etc/data.key"
        key.write_bytes(_KEY)
        key.chmod(0o600)
        return build_layer(tree, out)


@contextlib.contextmanager
def serving_vm(image: Image, desk: Desk, layer: Path, channel: Path) -> Iterator[ServingVm]:
    """Power on.  channel: unix socket of the VM's way to the host."""
    web, ssh = free_port(), free_port()
    volume = copy_sparse(data_volume(image), desk.directory / "volume.raw")
    spec = MachineSpec(
        image,
        init=Init.SYSTEMD,
        memory_mib=512,
        layers=(install_layer(), layer),
        disks=(Disk(volume, "data"),),
        ports=(Port(PORT_NAME, channel),),
        networks=(UserNetwork(forwards=(Forward(web, 80), Forward(ssh, 22))),),
    )
    with Machine(spec) as machine:
        yield ServingVm(machine, web_port=web, ssh_port=ssh)
