# SPDX-License-Identifier: Apache-2.0
"""Sources and the virtio-serial channel in a real guest, and what a live migration does to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from testbed.machine import Machine
from testbed.provision import install_layer
from testbed.spec import Port, PortMode, Smbios
from vmwarden.model.statement import Audience
from vmwarden.rules.statement_carrier import to_item, to_strings
from vmwarden.testing.host import HostSimulator

pytestmark = pytest.mark.vm

ME = Audience(vm="payments-1", generation=1)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)

#: run in the guest: opens the channel as the watcher does and asks once
ASK = """
import sys, time
sys.path.insert(0, "/opt/vmwarden/lib")
from pathlib import Path
from vmwarden.channels.virtio_serial import VirtioSerial
from vmwarden.errors import ChannelDown
from vmwarden.linux.tree import FileTree
from vmwarden.model.statement import Audience, Challenge
from vmwarden.rules import canonical
way = VirtioSerial(FileTree(Path("/"), live=True))
print("kept", way.keep())
end = time.monotonic() + 20
try:
    channel = way.open()
    me = Audience(vm="payments-1", generation=1)
    channel.send(canonical.encode(Challenge(aud=me, nonce=sys.argv[1] * 43)))
    got = ()
    while not got and time.monotonic() < end:
        got = channel.receive()
        time.sleep(0.05)
    print("heard", len(got), got[0][:8] if got else "")
except ChannelDown as error:
    print("down", error)
"""


def found(machine: Machine) -> dict[str, Any]:
    return {
        piece["id"]: piece
        for piece in json.loads(machine.guest.out("vmwarden evidence --json", timeout=60))["evidence"]
    }


def digest(token: str) -> str:
    return "unread sha256:" + hashlib.sha256(token.encode()).hexdigest()


def test_what_a_guest_sees_before_and_after_a_live_migration(
    boot_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    host = HostSimulator(tmp_path / "unused", key=KEY)
    before, after = host.static(ME), host.static(ME, city="A much longer name of a city than it was before")
    assert len(before) != len(after)
    common: dict[str, Any] = {"layers": (install_layer(),)}
    with boot_machine(
        fw_cfg={"opt/org.vmwarden/statement": to_item(before)},
        smbios=Smbios(system={"serial": "S-0001"}, oem_strings=to_strings(before)),
        **common,
    ) as source:
        seen = found(source)
        assert seen["platform/host.platform"]["value"] == "qemu"
        assert seen["virtualization/host.hypervisor"]["value"] == "qemu"
        assert seen["dmi/host.serial"]["value"] == "S-0001"
        assert seen["dmi/host.firmware"]["value"].startswith("SeaBIOS")
        assert abs(seen["rtc/clock.rtc_offset"]["value"]) <= 5
        assert seen["fw_cfg/host.statement"]["value"] == digest(before)
        assert seen["smbios/host.statement"]["value"] == digest(before)
        uri = f"unix:{tmp_path / 'migration'}"
        with boot_machine(
            fw_cfg={"opt/org.vmwarden/statement": to_item(after)},
            smbios=Smbios(system={"serial": "S-0002"}, oem_strings=to_strings(after)),
            incoming=uri,
            **common,
        ) as target:
            source.migrate(uri)
            target.wait_running()
            source.close()
            seen = found(target)
            assert seen["fw_cfg/host.statement"]["value"] == digest(after), "read anew from the new host"
            assert seen["smbios/host.statement"]["value"] == digest(before), "frozen at boot"
            assert seen["dmi/host.serial"]["value"] == "S-0001", "frozen at boot"


def test_the_channel_with_and_without_a_host(boot_machine: Callable[..., Machine], tmp_path: Path) -> None:
    path = tmp_path / "host"
    port = Port("org.vmwarden.host.0", path, PortMode.SERVER)
    with boot_machine(layers=(install_layer(),), ports=(port,)) as machine:
        machine.guest.put("/tmp/ask.py", ASK)

        def ask(letter: str) -> list[str]:
            return machine.guest.out(f"python3 /tmp/ask.py {letter}", timeout=60).splitlines()

        kept, outcome = ask("a")
        assert kept == "kept True"
        assert "nobody is at the host's end" in outcome
        for letter in "bc":  # the second one is a host that was started anew
            with HostSimulator(path, key=KEY, listen=False) as host:
                assert ask(letter) == ["kept True", 'heard 1 b\'{"jws":"\'']
                assert host.challenges[-1].nonce == letter * 43
