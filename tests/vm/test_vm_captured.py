# SPDX-License-Identifier: Apache-2.0
"""A captured watcher before a real gate: it can only withhold, neither open it nor end its lease early.

What it may say and what the warden makes of it, without a gate: tests/integration/test_captured_watcher.py.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from testbed.flows import Flows
from testbed.provision import Desk
from testbed.wire import Wire
from tests.vm.warded import ME, RECHECK_S, HostSimulator, WardedVm
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.message import Declared, Event, Gathered, RawStatement
from vmwarden.model.statement import Audience
from vmwarden.rules import canonical

pytestmark = [pytest.mark.vm, pytest.mark.root]

#: a verdict and what emulation adds
SOON_S = 30.0
#: the kernel's timer of a lease and one packet under way
LATE_MS = 100.0
#: how long it goes on lying before a closed gate
LYING_S = 6.0
#: in the guest, as the watcher's user: once another file is there, says the lines of a file over and over, as
#: fast as they are taken
FLOOD = """
import os, socket, time
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
messages = open("/opt/messages", "rb").read().splitlines()
said = 0
while not os.path.exists("/opt/go"):
    time.sleep(0.05)
while True:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        try:
            link.connect("/run/vmwarden/watcher.sock")
            while True:
                link.send(messages[said % len(messages)])
                said += 1
        except OSError:
            time.sleep(0.1)
"""
#: what belongs to the owner alone; counters of rules go on counting
OWNERS_OWN = (
    "cd /var/lib/vmwarden && sha256sum closed.nft armed* policy* /etc/vmwarden/owners.json; "
    "nft --stateless list table inet vmwarden"
)


def lies(desk: Desk, host: HostSimulator) -> Iterator[bytes]:
    """Everything with which somebody might want to open a VM, of which nothing is true."""
    place = {Subject.COUNTRY: "DE", Subject.POSTAL_CODE: "60311", Subject.TIME_ZONE: "Europe/Berlin"}
    claims = tuple(
        Evidence(id=f"dmi/{subject}", subject=subject, source="dmi", value=value)
        for subject, value in place.items()
    )
    stranger = HostSimulator(desk.directory / "nobody")
    true = host.static(ME)  # and not fresh, as the policy wants it
    for turn, frozen in itertools.product(range(1, 40), (False, True)):
        for jws in (stranger.static(ME), host.static(Audience(vm="another-vm", generation=1)), true):
            yield canonical.encode(RawStatement(turn=turn, source="fw_cfg", jws=jws, boot_frozen=frozen))
        garbled = f"{true[:-8]}AAAAAAAA"
        yield canonical.encode(RawStatement(turn=turn, source="dmi", jws=garbled, boot_frozen=frozen))
        yield canonical.encode(Declared(turn=turn, source="dmi", evidence=claims))
        yield canonical.encode(Gathered(turn=turn))
        yield canonical.encode(Event(kind="cloned", detail=str(turn), strong=True))


def test_a_captured_watcher_opens_nothing_and_an_honest_one_is_heard_again(
    warded_vm: WardedVm, record_property: Callable[[str, object], None]
) -> None:
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire())
        vm = stack.enter_context(warded_vm.clone(network=wire.tap()))
        host = stack.enter_context(warded_vm.host())
        vm.guest.put("/opt/messages", b"\n".join(lies(warded_vm.desk, host)))
        vm.guest.put("/opt/flood.py", FLOOD)
        flood = vm.guest.spawn("exec python3 -IS /opt/flood.py")
        vm.said(r"vmwarden: posture open: allow", SOON_S)
        flows = stack.enter_context(Flows(vm.guest, wire.netns))
        flows.wait_flowing(SOON_S)
        before, watcher = vm.guest.out(OWNERS_OWN), vm.watcher()

        # whoever has captured it speaks in its place
        captured = flows.signal(watcher, signal.SIGSTOP)
        vm.guest.put("/opt/go", b"")
        vm.said("another watcher connected", SOON_S)
        vm.said(r"vmwarden: posture held: unknown: .*place.country.too-weak", RECHECK_S + SOON_S)
        flows.wait_silent(SOON_S)
        last = flows.last_after_ms(captured)
        gap = flows.longest_gap_ms(captured)
        record_property("captured -> last packet [ms]", last)
        record_property("longest gap before it [ms]", round(gap, 1))
        # it withheld, and the evidence aged; before that the lease would have ended four times, if the flood
        # did not leave the warden the time to renew it
        assert RECHECK_S * 1000 / 2 <= max(last.values()) <= RECHECK_S * 1000 + LATE_MS, last
        time.sleep(LYING_S)
        assert flows.last_after_ms(captured) == last
        assert vm.guest.out(OWNERS_OWN) == before

        vm.guest.sh(f"kill -KILL {flood.pid}", check=True)
        vm.listen()
        flows.signal(watcher, signal.SIGCONT)
        vm.said(r"vmwarden: posture open: allow", SOON_S)
        flows.wait_flowing(SOON_S)
