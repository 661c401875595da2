# SPDX-License-Identifier: Apache-2.0
"""The acts.  Each can be played by itself; each raises NotAsTold where reality differs from the story."""

from __future__ import annotations

from pathlib import Path

from demo.stage import ASHBURN, FRANKFURT, SECRET, Companion, serving_vm, vm_layer
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


def right_place_then_moved(story: Story, image: Image, scratch: Path) -> None:
    """Open in Frankfurt; the host turns up in Virginia; the VM closes itself; back home it opens again."""
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
            for _ in within(90, "the page"):
                if vm.page() == f"{SECRET}\n":
                    break
        with story.step("its encrypted data volume is open"):
            expect(vm.volume_open(), "the volume is not open")
        story.act("Act 1, later: the host is somewhere else, and does not ask")
        companion.be_in(ASHBURN)
        with story.step("at its next recheck the VM sees it and closes its network by itself"):
            vm.machine.wait_console(DENIED, NOTICE_S)
        with story.step("the page no longer answers"):
            expect(vm.page(5.0) is None, "the page still answers")
        with story.step("the owner's way in (manage) still does"):
            expect(vm.ssh_banner().startswith("SSH-"), "sshd does not answer")
        companion.be_in(FRANKFURT)
        with story.step("back in Frankfurt it opens again, without anybody's help"):
            vm.machine.wait_console(r"(?s)deny.*vmwarden: posture open: allow", NOTICE_S)
            for _ in within(30, "the page"):
                if vm.page() == f"{SECRET}\n":
                    break
        journal = scratch / "act1.journal"
        with story.step("its journal tells all of it, signed, and verifies on another machine"):
            export = vm.machine.guest.sh("vmwarden journal export", timeout=120, check=True)
            journal.write_text(export.out)
            vmwarden("journal", "verify", journal)
            expect("place.country.mismatch" in export.out, "the journal does not say why")


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
            expect(vm.page(5.0) is None, "the page answers")
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
