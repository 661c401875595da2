# SPDX-License-Identifier: Apache-2.0
"""What becomes of an armed VM whose policy is damaged, old, foreign, on trial, or ordered away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.provision import Desk, vmwarden
from testbed.warded import findings
from tests.vm.warded import VERSION, Behaviour, Warded, WardedVm

pytestmark = pytest.mark.vm

POLICY = "/var/lib/vmwarden/policy.signed.json"
#: starting vmwarden anew and its verdict, under emulation
SOON_S = 60.0
TRIAL_S = 6


def missing(vm: Warded, of: WardedVm) -> None:
    vm.guest.sh(f"rm {POLICY}", check=True)


def unreadable(vm: Warded, of: WardedVm) -> None:
    vm.guest.put(POLICY, vm.guest.get(POLICY)[:-40])


def older(vm: Warded, of: WardedVm) -> None:
    vm.guest.put(POLICY, of.policy(version=VERSION - 1).read_bytes())


def changed(vm: Warded, of: WardedVm) -> None:
    vm.guest.put(POLICY, of.policy(proof="signed").read_bytes())


def by_nobody(vm: Warded, of: WardedVm) -> None:
    vm.guest.put(POLICY, vm.guest.get(POLICY).replace(b"enforce", b"observe"))


def by_one_of_two(vm: Warded, of: WardedVm) -> None:
    desk = of.desk
    both = desk.directory / "both.json"
    if not both.exists():
        words = [f"--key={name}={desk.key(name)}.pub" for name in ("owner", "deputy")]
        vmwarden("policy", "owners", "new", *words, "--policy-threshold", "2", "-o", both)
    vm.guest.put("/etc/vmwarden/owners.json", both.read_bytes())


def for_another_vm(vm: Warded, of: WardedVm) -> None:
    other = Desk(of.desk.directory, vm="payments-9")
    vm.guest.put(POLICY, other.policy(version=VERSION + 1).read_bytes())


DAMAGES: dict[str, Callable[[Warded, WardedVm], None]] = {
    "policy.missing": missing,
    "policy.unreadable": unreadable,
    "policy.rolled-back": older,
    "policy.replaced": changed,
    "policy.bad-signature": by_nobody,
    "policy.too-few-signatures": by_one_of_two,
    "policy.other-vm": for_another_vm,
}


@pytest.mark.parametrize("finding", list(DAMAGES))
def test_armed_without_a_policy_that_counts(finding: str, warded_vm: WardedVm) -> None:
    with warded_vm.clone() as vm:
        vm.kill()
        DAMAGES[finding](vm, warded_vm)
        vm.start()
        with warded_vm.host():
            vm.said(rf"vmwarden: posture quarantined: deny: {finding.replace('.', '[.]')} ", SOON_S)
            assert finding in findings(vm.journal("decision.changed")[-1:])
            assert vm.manage_answers(), "the owner's way in is closed"
            assert not vm.service_answers(1.0), "the service answers"
            status = vm.status()
            assert status["armed"]
            assert (status["posture"], status["mode"]) == ("quarantined", "enforce")
            assert status["gate"]["installed"]
            rules = vm.guest.out("nft list table inet vmwarden")
            assert "tcp dport 22 accept" in rules
            assert "drop" in rules


def test_one_that_has_run_out_stays_in_force(warded_vm: WardedVm, tmp_path: Path) -> None:
    ahead_s = 12 * 365 * 86_400  # beyond the end of 2035 (testbed.provision.POLICY)
    with warded_vm.clone(ahead_s=ahead_s) as vm, warded_vm.host(offset_s=ahead_s):
        vm.said(r"vmwarden: posture open: allow", SOON_S)
        assert vm.service_answers()
        assert "policy.expired" in findings(vm.journal("decision.changed")[-1:])
        vm.guest.put("/tmp/next.json", warded_vm.policy(version=VERSION + 1).read_bytes())
        code, text = vm.vmwarden("apply", "/tmp/next.json")
        assert code == 65, text
        assert vm.status()["policy"]["version"] == VERSION


def pending(vm: Warded) -> bool:
    return vm.guest.sh("test -e /var/lib/vmwarden/pending.json").rc == 0


class TestTrial:
    """apply --confirm-within."""

    def test_the_applier_is_killed_on_the_way(self, warded_vm: WardedVm) -> None:
        with warded_vm.clone() as vm, warded_vm.host():
            vm.guest.put("/tmp/next.json", warded_vm.policy(version=VERSION + 1).read_bytes())
            applying = vm.guest.spawn(f"exec vmwarden apply --confirm-within {TRIAL_S}s /tmp/next.json")
            # between the note of what is to be undone and everything that follows from it
            vm.guest.py(
                "import os\nwhile not os.path.exists('/var/lib/vmwarden/pending.json'): pass\n"
                f"os.kill({applying.pid}, 9)",
                timeout=30,
            )
            assert vm.status()["policy"]["version"] == VERSION
            vm.guest.wait_until(f"awk '{{ exit !($1 * 1000 > {deadline(vm)}) }}' /proc/uptime", TRIAL_S + 20)
            vm.kill()
            vm.start()
            vm.said(r"vmwarden: posture open: allow", SOON_S)
            assert vm.status()["policy"]["version"] == VERSION
            assert not pending(vm)
            assert vm.journal("policy.reverted") or vm.journal("policy.apply-undone")

    def test_unconfirmed_it_is_taken_back_while_the_warden_runs(self, warded_vm: WardedVm) -> None:
        with warded_vm.clone() as vm, warded_vm.host():
            vm.said(r"vmwarden: posture open: allow", SOON_S)
            # a mistake: this VM is not in France
            wrong = warded_vm.policy(version=VERSION + 1, place="FR")
            vm.guest.put("/tmp/next.json", wrong.read_bytes())
            code, text = vm.vmwarden("apply", "--confirm-within", f"{TRIAL_S}s", "/tmp/next.json")
            assert code == 0, text
            vm.said(r"vmwarden: posture held: deny: .*place\.country\.mismatch", SOON_S)
            vm.said(r"(?s)held: deny: .*vmwarden: posture open: allow", TRIAL_S + SOON_S)
            assert vm.status()["policy"]["version"] == VERSION
            assert vm.journal("policy.reverted")[-1]["body"]["why"] == "not confirmed"

    def test_only_a_new_connection_confirms(self, warded_vm: WardedVm) -> None:
        first, second = (f"SSH_CONNECTION='10.0.2.2 {port} 10.0.2.15 22' vmwarden " for port in (4001, 4002))
        with warded_vm.clone() as vm, warded_vm.host():
            vm.guest.put("/tmp/next.json", warded_vm.policy(version=VERSION + 1).read_bytes())
            assert vm.guest.sh(first + "apply --confirm-within 60s /tmp/next.json").rc == 0
            refused = vm.guest.sh(first + "confirm")
            assert refused.rc == 64, refused.out
            assert "the SSH connection over which the policy was applied" in refused.out
            assert vm.guest.sh(second + "confirm").rc == 0
            policy = vm.status()["policy"]
            assert policy["version"] == VERSION + 1
            assert not policy.get("pending_confirm")
            assert vm.journal("policy.confirmed")[-1]["body"]["version"] == VERSION + 1


def deadline(vm: Warded) -> int:
    """When the trial ends, milliseconds since boot."""
    return int(json.loads(vm.guest.get("/var/lib/vmwarden/pending.json"))["deadline_boot_ms"])


def test_a_purge_that_the_owner_ordered_leaves_no_trace(warded_vm: WardedVm, tmp_path: Path) -> None:
    with warded_vm.clone() as vm, warded_vm.host(behaviour=Behaviour.WRONG_COUNTRY):
        vm.said(r"vmwarden: posture held: deny", SOON_S)
        order = tmp_path / "order.json"
        order.write_text(vm.vmwarden("purge", "--request")[1])
        vm.guest.put("/tmp/order.json", order.read_bytes())
        code, text = vm.vmwarden("purge", "--order", "/tmp/order.json")
        assert code == 65, f"an unsigned order: {text}"
        assert not vm.service_answers(1.0)
        vmwarden("policy", "sign", "--add", order, "--key", warded_vm.desk.key("owner"))
        vm.guest.put("/tmp/order.json", order.read_bytes())
        code, text = vm.vmwarden("purge", "--order", "/tmp/order.json")
        assert code == 0, text
        assert vm.service_answers(), "closed after the purge"
        assert vm.guest.out("nft list ruleset") == ""
        left = vm.guest.out("ls /var/lib/vmwarden").split()
        assert [name for name in left if not name.startswith("journal.db")] in ([], ["lock"])
        status = vm.status()
        assert (status["enrolled"], status["armed"], status["mode"]) == (False, False, "observe")
