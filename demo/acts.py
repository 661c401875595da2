# SPDX-License-Identifier: Apache-2.0
"""The acts.  Each can be played by itself; each raises NotAsTold where reality differs from the story."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from demo.download import Download, Ear
from demo.stage import ASHBURN, FRANKFURT, SECRET, Companion, ServingVm, serving_vm, vm_layer
from demo.story import Story, expect, within
from testbed.image import Image
from testbed.provision import Desk, vmwarden

#: bound of one boot to its verdict under emulation on two busy cores: seconds
BOOT_S = 180
#: the policy's recheck; a host that changes its word is caught within it
RECHECK = "12s"
#: what the console says, and why
DENIED = r"vmwarden: posture (held|quarantined): deny: .*place\.country\.mismatch.*"
#: recheck, the answer's way under emulation, and a margin
NOTICE_S = 60
#: seconds that the slot still lasts when its end is written into the policy, and until the next one; and more
#: on a slow machine
SLOT_S, PAUSE_S = 16, 8
#: bounds of the download's last byte against the slot's end, milliseconds.  Late: a timer under emulation is.
#: Early: the slot's last lease, 5 s, which the warden takes back if the kernel got it late, as it does
#: under emulation; the pauses of TCP after that; and what a stamp of the host's leaves open
LATE_MS, EARLY_MS = 100, 8_000


def a_day_in_the_right_place(story: Story, image: Image, scratch: Path) -> None:
    """Open in Frankfurt; closed while its host is in Virginia, and outside its hours; its journal tells."""
    desk = Desk(scratch / "act1")
    channel = scratch / "act1.sock"
    story.act("Act 1: the right place")
    with story.step("the owner signs a policy: Germany, postal codes 603*, on fresh proof of rack-7"):
        policy = desk.policy(recheck=RECHECK)
        layer = vm_layer(desk, policy, scratch / "act1.squashfs")
    companion = Companion(desk, channel)
    companion.be_in(FRANKFURT)
    with serving_vm(image, desk, layer, channel) as vm, companion:
        with story.step("the VM boots with its network closed, asks the host where it is, gets proof, opens"):
            vm.machine.wait_console(r"vmwarden: posture open: allow", BOOT_S)
        with story.step("its web page answers through the forwarded port"):
            _page_answers(vm, 90)
        with story.step("its encrypted data volume is open"):
            expect(vm.volume_open(), "the volume is not open")
        _moved(story, vm, companion)
        _slot_ends(story, vm, desk)
        story.act("Act 1, afterwards: the record")
        journal = scratch / "act1.journal"
        with story.step("its journal tells all of it, signed, and verifies on another machine"):
            export = vm.machine.guest.sh("vmwarden journal export", timeout=120, check=True)
            journal.write_text(export.out)
            vmwarden("journal", "verify", journal)
            for told in ("place.country.mismatch", "hours.outside"):
                expect(told in export.out, f"the journal does not say {told}")


def _moved(story: Story, vm: ServingVm, companion: Companion) -> None:
    story.act("Act 1, later: the host is somewhere else, and does not ask")
    companion.be_in(ASHBURN)
    with story.step("at its next recheck the VM sees it and closes its network by itself"):
        vm.machine.wait_console(DENIED, NOTICE_S)
    with story.step("the page no longer answers"):
        expect(vm.page(3.0) is None, "the page still answers")
    with story.step("the owner's way in (manage) still does"):
        expect(vm.ssh_banner().startswith("SSH-"), "sshd does not answer")
    companion.be_in(FRANKFURT)
    with story.step("back in Frankfurt it opens again, without anybody's help"):
        vm.machine.wait_console(r"(?s)deny.*vmwarden: posture open: allow", NOTICE_S)
        _page_answers(vm, 30)


def _slot_ends(story: Story, vm: ServingVm, desk: Desk) -> None:
    story.act("Act 1, evening: the slot ends while a download runs")
    vm.machine.guest.set_clock(time.time())  # after the boot it is right to half a second, as an RTC is
    begun = time.monotonic()
    vm.status()  # the first command takes long, and tells how slow the machine is
    took_s = time.monotonic() - begun
    ear = Ear(vm.machine.guest)
    with Download(vm.web_port) as download:
        with story.step("a client begins a download that has no end"):
            _runs(download)
        ends = int(vm.clock() + SLOT_S + 2 * took_s)
        begins = ends + int(PAUSE_S + took_s)
        with story.step(
            f"by the owner's next policy the VM is closed from {_at(ends)} to {_at(begins)}, UTC"
        ):
            slot = f'{{start_time: "{_at(begins)}", end_time: "{_at(ends)}"}}'
            policy = desk.policy(
                version=2, recheck=RECHECK, place_more=f"hours: {{open: [{{times: [{slot}]}}]}}\n"
            )
            vm.machine.guest.put("/root/policy.json", policy.read_bytes())
            said = vm.vmwarden("apply", "/root/policy.json")
            found = _hours(vm.status())
            expect(found.startswith(f"open until {_iso(ends)}"), f"{found!r} after {said!r}")
        with story.step("at the slot's end the kernel cuts it, and its client is told"):
            expect(download.told(NOTICE_S), "the download goes on")
        last_ns = ear.last_ns()
        late_ms = last_ns / 1e6 - ends * 1000
        story.say(
            f"{download.received} bytes came; by the VM's clock its last byte left {abs(late_ms):.1f} ms"
        )
        story.say(f"{'after' if late_ms > 0 else 'before'} the slot's end (bound: {LATE_MS} ms late)")
        expect(-EARLY_MS <= late_ms <= LATE_MS, "that is not at the slot's end")
    with story.step("a new connection gets nothing, manage answers, and not a byte more has left"):
        expect(vm.page() is None, "the page answers")
        expect(vm.ssh_banner().startswith("SSH-"), "sshd does not answer")
        expect(ear.last_ns() == last_ns, "data left the VM outside its hours")
    with story.step("its status says that it is closed as scheduled, and until when"):
        status = vm.status()
        expect(_hours(status).startswith(f"closed until {_iso(begins)}"), f"status: {status}")
        decision = status["decision"]
        expect(decision["scheduled"] and not decision.get("asks"), f"status: {status}")
        told = vm.vmwarden("status").splitlines()
    for row in told:
        if row.startswith(("posture", "verdict", "hours")):
            story.say(row)
    with story.step(f"the slot of {_at(begins)} opens by itself, and a new download runs"):
        vm.machine.wait_console(r"(?s)hours\.outside.*vmwarden: posture open: allow", NOTICE_S)
        with Download(vm.web_port) as download:
            _runs(download)


def _hours(status: dict[str, Any]) -> str:
    """What status says of the hours."""
    verdicts = {verdict["fence"]: verdict for verdict in status["decision"]["verdicts"]}
    return str(verdicts["hours"]["findings"][0]["found"]) if "hours" in verdicts else ""


def _iso(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def _page_answers(vm: ServingVm, within_s: float) -> None:
    for _ in within(within_s, "the page"):
        if vm.page() == f"{SECRET}\n":
            return


def _runs(download: Download) -> None:
    for _ in within(30, "the download"):
        if download.runs():
            return


def _at(unix_s: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(unix_s))


def wrong_place(story: Story, image: Image, scratch: Path) -> None:
    """Booted in Virginia: refuses to serve, keeps its data closed, says exactly why."""
    desk = Desk(scratch / "act2")
    channel = scratch / "act2.sock"
    story.act("Act 2: the same VM, started in the wrong place")
    layer = vm_layer(desk, desk.policy(recheck=RECHECK), scratch / "act2.squashfs")
    companion = Companion(desk, channel)
    companion.be_in(ASHBURN)
    with serving_vm(image, desk, layer, channel) as vm, companion:
        with story.step("the VM boots, asks, and refuses; its console says why"):
            found = vm.machine.wait_console(DENIED, BOOT_S)
            vm.machine.wait_console(r"vmwarden: deny: (held|quarantined)", BOOT_S)
        story.say(found.group(0)[:160].strip())
        with story.step("the page does not answer"):
            expect(vm.page(3.0) is None, "the page answers")
        with story.step("the data volume is closed"):
            expect(not vm.volume_open(), "the volume is open")
            state = vm.machine.guest.sh("systemctl is-active vmwarden-open.target").out.strip()
            expect(state == "inactive", f"vmwarden-open.target is {state}")
        with story.step("the owner can still reach it: sshd answers, no emergency mode"):
            expect(vm.ssh_banner().startswith("SSH-"), "sshd does not answer")
            state = vm.machine.guest.sh("systemctl is-system-running").out.strip()
            expect(state in ("degraded", "starting"), f"the system is {state}")
        with story.step("its status says deny, closed except manage, and the tier"):
            status = vm.status()
            decision = status["decision"]
            expect(isinstance(decision, dict) and decision["answer"] == "deny", f"status: {status}")
            expect(status["tier"] == 0, f"status: {status}")
