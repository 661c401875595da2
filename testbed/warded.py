# SPDX-License-Identifier: Apache-2.0
"""Fast guests in which vmwarden runs already, closed, on a silent host: saved once, restored often.

What listens in the guest belongs to the agent: an echo on TCP 22 (in the policy's ``manage``, in place of
sshd), one on TCP 80 (what the VM serves), and one for UDP on 9000.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.failures import GuestTimeout
from testbed.image import Image
from testbed.loopback import free_port
from testbed.machine import Machine
from testbed.provision import Desk, install_layer
from testbed.snapshot import Snapshot, boot_and_save
from testbed.spec import (
    USER_GATEWAY,
    USER_GUEST,
    Forward,
    IsolatedNetwork,
    MachineSpec,
    Network,
    Port,
    PortMode,
    UserNetwork,
)

PORT_NAME = "org.vmwarden.host.0"
#: where a static statement lies
ITEM = "opt/org.vmwarden/statement"
MANAGE_PORT, SERVICE_PORT, UDP_PORT = 22, 80, 9000
#: the fast guest has no systemd-sysusers, hence no user vmwarden
RUN = "exec vmwarden run --user nobody"

_NOBODY = Path("/nonexistent/vmwarden")
_START_S = 90.0
_SERVERS = f"""
import socket, threading
def _echo(link):
    with link:
        while data := link.recv(4096):
            link.sendall(data)
def _listen(port):
    door = socket.create_server(("", port))
    while True:
        threading.Thread(target=_echo, args=(door.accept()[0],), daemon=True).start()
def _datagrams(port):
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("", port))
    while True:
        data, sender = door.recvfrom(2048)
        try:
            door.sendto(data, sender)
        except OSError:
            pass  # the gate refuses its own VM with EPERM
for _port in ({MANAGE_PORT}, {SERVICE_PORT}):
    threading.Thread(target=_listen, args=(_port,), daemon=True).start()
threading.Thread(target=_datagrams, args=({UDP_PORT},), daemon=True).start()
"""


def save_warded(
    image: Image,
    layer: Path,
    directory: Path,
    *,
    fw_cfg: Mapping[str, bytes] | None = None,
) -> Snapshot:
    """Boot a fast guest with the install layer and a VM's own ``layer`` (`Desk.layer`), close its gate as
    the boot unit does, start vmwarden, save it once it has said its posture."""

    def prepare(machine: Machine) -> None:
        guest = machine.guest
        guest.py(_SERVERS)
        guest.sh("test ! -e /var/lib/vmwarden/closed.nft || nft -f /var/lib/vmwarden/closed.nft", check=True)
        guest.py(COMMANDS, _START_S)
        guest.spawn(f"{RUN} > /dev/console 2>&1")
        machine.wait_console(r"vmwarden: posture \w+: ", _START_S)
        guest.py(
            "import json\nwhile json.loads(said('status', '--json')[1])['watcher'] != 'connected': pass",
            _START_S,
        )
        guest.py("said('journal', 'show', '--json')", _START_S)

    spec = MachineSpec(
        image,
        layers=(install_layer(), layer),
        ports=(Port(PORT_NAME, _NOBODY, PortMode.CONNECT),),
        networks=(IsolatedNetwork(USER_GUEST, USER_GATEWAY),),
        fw_cfg=fw_cfg or {},
    )
    return boot_and_save(spec, directory, prepare)


#: vmwarden's command line within the agent: a new Python with all its imports takes three seconds here
COMMANDS = """
import contextlib, io, sys
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.cli import main as _main
def said(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = _main.main(words)
    return code, out.getvalue()
"""


class Warded:
    """A restored guest with vmwarden in it, seen from its host; use it in a ``with`` statement."""

    def __init__(
        self,
        snapshot: Snapshot,
        channel: Path,
        *,
        network: Network | None = None,
        ahead_s: float = 0.0,
        **changes: Any,
    ) -> None:
        """channel: where QEMU listens as the VM's way to the host; nobody is there before somebody connects.

        network: instead of a user network with forwards to manage and service.  ahead_s: of the guest's
        clock before this host's.  changes: more fields of MachineSpec.
        """
        self._begun = 0
        self.manage_port, self.service_port = free_port(), free_port()
        user = UserNetwork(
            forwards=(Forward(self.manage_port, MANAGE_PORT), Forward(self.service_port, SERVICE_PORT))
        )
        self.machine = snapshot.restore(
            ports=(Port(PORT_NAME, channel),), networks=(network or user,), **changes
        )
        self.guest = self.machine.guest
        self.set_clock(ahead_s)
        self.guest.reseed()

    def __enter__(self) -> Warded:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()

    def set_clock(self, ahead_s: float) -> None:
        """Set the guest's clock so many seconds before this host's."""
        self.guest.set_clock(time.time() + ahead_s)

    def manage_answers(self, timeout_s: float = 10.0) -> bool:
        """Whether the echo on port 22 does, through its forward."""
        return _echoes(self.manage_port, timeout_s)

    def service_answers(self, timeout_s: float = 10.0) -> bool:
        """Whether the echo on port 80 does."""
        return _echoes(self.service_port, timeout_s)

    def said(self, pattern: str, timeout: float, *, every: float = 0.05) -> re.Match[str]:
        """The first place where vmwarden's words match, since the restore or the last `start` or `listen`."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, words := self.machine.console()[self._begun :])):
            if time.monotonic() > deadline:
                raise GuestTimeout(f"vmwarden did not say {pattern!r} within {timeout} s, but:\n{words}")
            time.sleep(every)
        return found

    def listen(self) -> None:
        """From here on is what `said` looks at."""
        self._begun = len(self.machine.console())

    def warden(self) -> int:
        """Process id of the warden that runs.  Raises GuestTimeout if there is none."""
        return int(self.guest.wait_until("pgrep -o -f '[v]mwarden run'", 10).out)

    def watcher(self, *, other_than: int = 0, timeout: float = 30.0) -> int:
        """Process id of the watcher, once there is one other than that."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for word in self.guest.sh("pgrep -f '[v]mwarden watcher'").out.split():
                if int(word) != other_than:
                    return int(word)
            time.sleep(0.05)
        raise GuestTimeout(f"no watcher but {other_than} within {timeout} s")

    def vmwarden(self, *words: str, timeout: float = 60.0) -> tuple[int, str]:
        """Run a command within the agent: its exit code, and what it said."""
        told = self.guest.py(f"import json\nprint(json.dumps(said(*{words!r})))", timeout)
        code, text = json.loads(told)
        return int(code), str(text)

    def status(self) -> dict[str, Any]:
        """vmwarden status --json."""
        return dict(json.loads(self.vmwarden("status", "--json")[1]))

    def journal(self, kind: str = "") -> list[dict[str, Any]]:
        """vmwarden journal show --json: the newest records, of that kind (``event.*`` works)."""
        words = ("--kind", kind) if kind else ()
        shown = json.loads(self.vmwarden("journal", "show", "--json", *words)[1])
        records: list[dict[str, Any]] = shown["records"]
        return records

    def start(self) -> None:
        """Start vmwarden (again)."""
        self.listen()
        self.guest.spawn(f"{RUN} > /dev/console 2>&1")

    def kill(self) -> None:
        """SIGKILL for the warden; returns when it and its watcher are gone."""
        self.guest.sh(
            "pkill -9 -f '[v]mwarden run'; while pgrep -f '[v]mwarden (run|watcher)' > /dev/null; do :; done",
            check=True,
        )


def findings(records: list[dict[str, Any]]) -> set[str]:
    """The ids of everything that was found, in records of decision.changed."""
    return {one["id"] for record in records for one in record["body"].get("findings", ())}


def host_key(desk: Desk, name: str = "rack-7") -> Any:
    """The private key of a host of the desk, for `vmwarden.testing.host.HostSimulator`."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    return load_ssh_private_key(desk.key(name).read_bytes(), password=None)


def _echoes(port: int, timeout_s: float) -> bool:
    # QEMU takes a forwarded connection before the guest has answered: only bytes from inside count
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as link:
            link.settimeout(timeout_s)
            link.sendall(b"there?")
            return link.recv(64) == b"there?"
    except OSError:
        return False
