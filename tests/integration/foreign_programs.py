# SPDX-License-Identifier: Apache-2.0
"""Other programs that make rules: a real firewalld, and what Docker tells iptables, in the VM's namespace."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection
from vmwarden.linux.process import run
from vmwarden.testing.network import Lan, Namespace

#: what tools/packages.sh unpacks
_UNPACKED = Path(__file__).parents[2] / ".cache" / "unpacked"
_PYTHON = ("python3-firewall", "python3-nftables")
#: those that name services; block, drop and trusted are the ones that it cannot do without
_ZONES_LEFT_OUT = (
    "dmz.xml",
    "external.xml",
    "home.xml",
    "internal.xml",
    "public.xml",
    "work.xml",
    "nm-*.xml",
)
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
#: on a loaded machine
_WITHIN_S = 40.0
CONTAINER, BRIDGE, PUBLISHED_PORT, CONTAINER_PORT = "172.17.0.2", "172.17.0.1", 9200, 9201

_PUBLISHED = f"-p udp -m udp --dport {PUBLISHED_PORT} -j DNAT --to {CONTAINER}:{CONTAINER_PORT}"
_PASSED = f"-d {CONTAINER} ! -i docker0 -o docker0 -p udp -m udp --dport {CONTAINER_PORT} -j ACCEPT"

#: what dockerd makes for the bridge docker0 and a published port (moby, libnetwork/drivers/bridge)
DOCKER = f"""*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 {_PUBLISHED}
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER {_PASSED}
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""
DOCKER_GONE = """*nat
:PREROUTING ACCEPT [0:0]
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""


def iptables_restore(network: Lan, text: str) -> None:
    """The two tables as text has them; what they held goes."""
    with network.vm.entered():
        run(["iptables-nft-restore"], timeout_s=20, input=text.encode())


@contextmanager
def container(network: Lan) -> Iterator[Namespace]:
    """A namespace behind a bridge docker0 of the VM."""
    made = Namespace(f"vmw{secrets.token_hex(4)}c")
    run(["ip", "netns", "add", made.name], timeout_s=20)
    try:
        for command in (
            "link add docker0 type bridge",
            f"addr add {BRIDGE}/16 dev docker0",
            f"link add veth0 type veth peer name eth0 netns {made.name}",
            "link set veth0 master docker0",
            "link set docker0 up",
            "link set veth0 up",
        ):
            network.vm.run("ip", *command.split())
        for command in (
            f"addr add {CONTAINER}/16 dev eth0",
            "link set lo up",
            "link set eth0 up",
            f"route add default via {BRIDGE}",
        ):
            made.run("ip", *command.split())
        yield made
    finally:
        run(["ip", "netns", "del", made.name], timeout_s=20, check=False)


class Firewalld:
    """A firewalld with a message bus, a configuration and a /run of its own, in the VM's network namespace.
    Its zone accepts everything."""

    def __init__(self, network: Lan, folder: Path) -> None:
        self._network = network
        self._config, self._defaults, bus = folder / "etc", folder / "lib", folder / "bus"
        shutil.copytree(_UNPACKED / "firewalld" / "etc" / "firewalld", self._config)
        # of 250 descriptions of services it makes objects on the bus: five seconds of CPU
        left_out = shutil.ignore_patterns("services", "policies", *_ZONES_LEFT_OUT)
        shutil.copytree(_UNPACKED / "firewalld/usr/lib/firewalld", self._defaults, ignore=left_out)
        conf = self._config / "firewalld.conf"
        conf.write_text(conf.read_text().replace("DefaultZone=public", "DefaultZone=trusted"))
        (folder / "bus.conf").write_text(_BUS.format(path=bus))
        modules = (_UNPACKED / each / "usr/lib/python3/dist-packages" for each in _PYTHON)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(map(str, modules)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}",
        }
        self._children: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "log").open("wb")
        self._start("dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork", "--nopidfile")
        _wait(bus.exists)

    def start(self) -> None:
        """Returns when its rules stand and it answers."""
        self._start(
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs none /run && exec "$@"',
            "sh",
            "/usr/bin/python3",
            str(_UNPACKED / "firewalld/usr/sbin/firewalld"),
            *("--nofork", "--nopid", "--log-target", "console", "--system-config", str(self._config)),
            *("--default-config", str(self._defaults)),
        )
        _wait(self._stands)
        _wait(lambda: self._command("--state") == 0)

    def reload(self) -> None:
        assert self._command("--reload") == 0

    def stop(self) -> None:
        """As systemd does."""
        firewalld = self._children.pop()
        firewalld.send_signal(signal.SIGTERM)
        firewalld.wait(_WITHIN_S)
        assert not self._stands()

    def close(self) -> None:
        for child in reversed(self._children):
            child.kill()
            child.wait(_WITHIN_S)
        self._log.close()

    def _start(self, *argv: str) -> None:
        with self._network.vm.entered():
            self._children.append(
                subprocess.Popen(argv, env=self._environment, stdout=self._log, stderr=self._log)
            )

    def _command(self, what: str) -> int:
        return subprocess.run(
            ["/usr/bin/python3", str(_UNPACKED / "firewalld/usr/bin/firewall-cmd"), what],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            timeout=_WITHIN_S,
            check=False,
        ).returncode

    def _stands(self) -> bool:
        with self._network.vm.entered(), closing(Connection()) as kernel:
            return nft.standing(kernel, "firewalld")


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not until():
        assert time.monotonic() < deadline, "firewalld did not come up"
        time.sleep(0.02)
