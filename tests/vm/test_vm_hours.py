# SPDX-License-Identifier: Apache-2.0
"""The end of a slot, in guests whose host plays with time: paused, put back, a clock that is set wrong.

pytest -m soak -s tests/vm/test_vm_hours.py     30 s of pause, and VMs to which nobody stamps the time
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed.commands import run
from testbed.disks import create_disk
from testbed.image import Image
from testbed.machine import Machine
from testbed.provision import install_layer
from testbed.slots import ASKED_EVERY_S, LEASE_S, RECHECK_S, KeptFlows, Slot, Slotted, restore, save
from testbed.spec import USER_GATEWAY, USER_GUEST, IsolatedNetwork, Port
from testbed.warded import PORT_NAME, RUN, Warded, findings
from testbed.wire import Wire
from vmwarden.testing.host import Behaviour, HostSimulator

pytestmark = [pytest.mark.vm, pytest.mark.root]

#: a verdict and what emulation adds
SOON_S = 30.0
#: starting vmwarden anew
START_S = 90.0
#: the kernel's timer of a lease and one packet under way
LATE_MS = 100.0
#: between two packets of a flow: the guest should have time for its warden
PACE_S = 0.01
#: an answer of the host, heard and judged, under emulation
ANSWER_S = 2.0
#: a host's stamp is cut to the second, and the VM ends a slot early by that and by the way there and back
EARLY_MS = (1.0 + ANSWER_S) * 1000
#: vmwarden.rules.clock_mark.LASTS_MS, and the first look at the clock
STEADY_S = 64.0
HOUR_S, DAY_S = 3_600, 86_400
CARD: dict[str, Any] = {"networks": (IsolatedNetwork(USER_GUEST, USER_GATEWAY),)}
FLOORS = "/var/lib/vmwarden/floors.json"

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def slotted(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Slotted:
    return Slotted(image, tmp_path_factory.mktemp("h"))


@dataclass
class Serving:
    """A VM that is open, with flows through its tap, and its trusted host."""

    vm: Warded
    host: HostSimulator
    flows: KeptFlows
    slot: Slot

    def end_ns(self) -> int:
        """The slot's end by the guest's CLOCK_BOOTTIME, unless it is paused before."""
        # the guest read its clock after we began to ask: the shortest way is the nearest to the truth
        ends = []
        for _ in range(3):
            left_s = self.slot.left_s()
            ends.append(self.flows.now() + int(left_s * 1e9))
        return min(ends)

    def own_end_ns(self) -> int:
        """The slot's end by CLOCK_BOOTTIME, as the guest's own clock has it."""
        both = "[time.clock_gettime_ns(clock) for clock in (time.CLOCK_REALTIME, time.CLOCK_BOOTTIME)]"
        utc_ns, boot_ns = json.loads(self.vm.guest.py(f"import json, time\nprint(json.dumps({both}))"))
        return int(boot_ns + self.slot.ends_s * 10**9 - utc_ns)

    def stepped_ms(self, since_ns: int) -> list[int]:
        """The steps on record since a moment."""
        records = self.vm.journal("clock.stepped")
        return [one["body"]["by_ms"] for one in records if one["boot_ms"] * 1_000_000 > since_ns]

    def cut(self, since_ns: int, *, ends_ns: int = 0) -> dict[str, float]:
        """When each flow's last packet came through, milliseconds after a moment, once all is silent and the
        posture taken.  ends_ns: not before that: a machine without CPU to spare is silent now and then."""
        while self.flows.now() < ends_ns:
            time.sleep(0.2)
        self.vm.said(r"vmwarden: posture (quarantined: deny|held): .*hours\.", SOON_S)
        self.flows.wait_silent(SOON_S)
        return self.flows.last_after_ms(since_ns)


@contextlib.contextmanager
def serving(slotted: Slotted, kind: str, left_s: float) -> Iterator[Serving]:
    """With trusted time the host stamps; with local nobody does."""
    slotted.snapshot(kind)
    slot = Slot.with_left(left_s)
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire())
        vm = stack.enter_context(slotted.clone(kind, slot, network=wire.tap()))
        host = slotted.host(slot)
        if kind == "trusted":
            stack.enter_context(host)
        vm.said(r"vmwarden: posture open: allow", SOON_S)
        flows = KeptFlows(vm.guest, wire.netns, pace_s=PACE_S)
        stack.enter_context(flows)
        flows.wait_flowing(SOON_S)
        print(f"\nserving with {slot.left_s():.1f} s left")
        vm.listen()
        yield Serving(vm, host, flows, slot)


def note(record: Record, name: str, last: dict[str, float]) -> None:
    for flow, ms in last.items():
        record(f"{name}: {flow} [ms]", ms)
    print(f"{name}: {last}")


def stays_closed(it: Serving, last: dict[str, float], since_ns: int) -> None:
    time.sleep(LEASE_S + 1)
    assert it.flows.last_after_ms(since_ns) == last, "a closed slot let packets through"


def told_outside(it: Serving) -> None:
    """Journal and status say that the slot is over, and that nothing is wrong."""
    status = it.vm.status()
    assert status["posture"] == "quarantined"
    newest = it.vm.journal("decision.changed")[-1]["body"]
    assert (newest["posture"], newest["answer"]) == ("quarantined", "deny")
    assert "hours.outside" in {one["id"] for one in newest["findings"]}
    assert it.vm.journal("posture.taken")[-1]["body"]["posture"] == "quarantined"
    assert not it.vm.journal("ask.recorded"), "a nightly closing is no incident"


@pytest.mark.parametrize(
    ("pause_s", "behaviour"),
    [
        pytest.param(11, Behaviour.HONEST, id="short"),
        pytest.param(30, Behaviour.HONEST, id="long", marks=pytest.mark.soak),
        pytest.param(30, Behaviour.SILENT, id="long, and no answers", marks=pytest.mark.soak),
    ],
)
def test_paused_across_the_end(
    pause_s: int, behaviour: Behaviour, slotted: Slotted, record_property: Record
) -> None:
    """The host answers when it lets the VM go on; or it keeps the answers away."""
    with serving(slotted, "trusted", 23) as it:
        it.slot.wait(9)
        before_ns, before_s = it.flows.now(), time.monotonic()
        it.vm.machine.pause()
        it.host.behaviour = behaviour
        time.sleep(pause_s)
        assert it.slot.left_s() < 0
        it.vm.machine.resume()
        resumed_ns = it.flows.now()
        passed_s = time.monotonic() - before_s
        stood_s = passed_s - (resumed_ns - before_ns) / 1e9
        record_property("CLOCK_BOOTTIME stood for [s]", round(stood_s, 1))
        print(f"paused {pause_s} s, CLOCK_BOOTTIME stood for {stood_s:.1f} s")
        assert stood_s > pause_s - 1, "the guest's clock went on while it was paused"

        last = it.cut(resumed_ns)
        note(record_property, f"resumed, the host {behaviour} -> last packet", last)
        if behaviour is Behaviour.HONEST:
            assert max(last.values()) <= (ASKED_EVERY_S + ANSWER_S + LEASE_S) * 1000
            stays_closed(it, last, resumed_ns)
            told_outside(it)
        else:
            assert max(last.values()) <= (RECHECK_S + LEASE_S) * 1000
            stays_closed(it, last, resumed_ns)
            assert it.vm.status()["posture"] in ("held", "quarantined")
            assert {"hours.time-stale", "hours.outside"} & findings(it.vm.journal("decision.changed")[-1:])


def test_put_back_into_a_slot_that_is_over(slotted: Slotted, tmp_path: Path, record_property: Record) -> None:
    with serving(slotted, "trusted", 23) as it:
        it.slot.wait(8)
        # everything after this is counted: what it still did before it was saved, too
        saved_ns = it.flows.now()
        save(it.vm, tmp_path / "state")
        it.slot.wait(-1)
        restore(it.vm, tmp_path / "state")
        it.flows.go_on(it.vm)
        last = it.cut(saved_ns)
        note(record_property, "restored in a closed slot -> last packet", last)
        assert max(last.values()) <= (ASKED_EVERY_S + ANSWER_S + LEASE_S) * 1000
        stays_closed(it, last, saved_ns)
        told_outside(it)


def test_steps_of_the_wall_clock_do_not_move_the_end(slotted: Slotted, record_property: Record) -> None:
    with serving(slotted, "trusted", 28) as it:
        begun_ns, end_ns = it.flows.now(), it.end_ns()
        for by_s in (HOUR_S, -HOUR_S, -400 * DAY_S):
            step(it, by_s)
            time.sleep(0.7)
        assert it.slot.left_s() > EARLY_MS / 1000, "this machine is too slow for so short a slot"
        it.flows.wait_flowing(it.slot.left_s())
        gap = it.flows.longest_gap_ms(begun_ns)
        record_property("longest gap while the clock is set [ms]", round(gap, 1))
        assert gap < LEASE_S * 1000 / 2
        last = it.cut(begun_ns, ends_ns=end_ns)
        late = {name: round(ms - (end_ns - begun_ns) / 1e6, 1) for name, ms in last.items()}
        note(record_property, "slot's end -> last packet, after +1 h, -1 h, -400 d", late)
        assert max(late.values()) <= LATE_MS
        assert min(late.values()) >= -EARLY_MS
        for by_s in (-HOUR_S, -HOUR_S - DAY_S, -400 * DAY_S):
            step(it, by_s)
            time.sleep(1.0)
        stays_closed(it, last, begun_ns)
        told_outside(it)
        assert not it.stepped_ms(begun_ns), "the hours went by the clock that anybody can set"


def test_an_rtc_that_is_set_back_opens_no_slot_that_is_over(
    boot_machine: Callable[..., Machine], slotted: Slotted
) -> None:
    """It boots in a slot of today, by its RTC, and remembers that tomorrow's has begun."""
    slot = Slot.with_left(1_800)
    layer = slotted.layer("local", floor_s=slot.ends_s - 1_800)
    with boot_machine(
        rtc_base=rtc(slot.ends_s - DAY_S - 1_800), layers=(install_layer(), layer), **CARD
    ) as vm:
        refuses_until_the_clock_is_right(vm, slot, "hours.time-unknown")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "finding"), [("local", "hours.time-unknown"), ("trusted", "hours.time-unproven")]
)
def test_what_a_host_has_stamped_outlasts_a_power_cut(
    kind: str, finding: str, boot_machine: Callable[..., Machine], slotted: Slotted, tmp_path: Path
) -> None:
    """It runs in tomorrow's slot, and loses its power.  Then it boots in today's, by its RTC."""
    upper = create_disk(tmp_path / "upper", 64 << 20)
    # with a journal of its own, unlike the bed's: the power is cut under it
    run(["mke2fs", "-q", "-F", "-t", "ext4", upper], timeout=60)
    channel = tmp_path / "c.sock"
    common: dict[str, Any] = {
        "layers": (install_layer(), slotted.layer(kind)),
        "upper": upper,
        "ports": (Port(PORT_NAME, channel),),
        **CARD,
    }
    slot = Slot.with_left(1_800)
    with slotted.host(slot, channel), boot_machine(rtc_base=rtc(slot.ends_s - 1_800), **common) as vm:
        vm.guest.spawn(f"{RUN} > /dev/console 2>&1")
        vm.wait_console(r"vmwarden: posture open: allow", START_S)
        deadline = time.monotonic() + START_S
        while json.loads(vm.guest.get(FLOORS)).get("time_utc_ms", 0) < (slot.ends_s - HOUR_S) * 1000:
            assert time.monotonic() < deadline, "the host's stamps did not move the floor"
            time.sleep(0.2)
        assert sends(vm)
        vm.quit()
    with boot_machine(rtc_base=rtc(slot.ends_s - DAY_S - 1_800), **common) as vm:
        refuses_until_the_clock_is_right(vm, slot, finding)


def refuses_until_the_clock_is_right(vm: Machine, slot: Slot, finding: str) -> None:
    """Started too early by its clock, the VM sends nothing; put right, it knows that the slot is over."""
    vm.guest.spawn(f"{RUN} > /dev/console 2>&1")
    vm.wait_console(rf"vmwarden: posture held: unknown: .*{finding}", START_S)
    assert not sends(vm)
    vm.guest.set_clock(slot.ends_s + HOUR_S)
    by_its_own_clock = finding == "hours.time-unknown"
    if by_its_own_clock:
        vm.wait_console(r"vmwarden: posture quarantined: deny: hours\.outside", START_S)
    time.sleep(LEASE_S)
    assert not sends(vm)
    records = json.loads(vm.guest.out("vmwarden journal show --json", timeout=120))["records"]
    started = max(number for number, one in enumerate(records) if one["kind"] == "warden.started")
    decided = [one for one in records[started:] if one["kind"] == "decision.changed"]
    assert finding in findings(decided[:1])
    assert {one["body"]["posture"] for one in decided} <= {"held", "quarantined"}
    assert ("hours.outside" in findings(decided[-1:])) == by_its_own_clock


@pytest.mark.soak
@pytest.mark.parametrize("corrected", [True, False], ids=["corrected", "left alone"])
@pytest.mark.parametrize("how", ["paused", "put back"])
def test_without_a_stamp_it_is_the_vms_own_clock_that_counts(
    how: str, corrected: bool, slotted: Slotted, tmp_path: Path, record_property: Record
) -> None:
    """It stands still while the VM does, and the slot lasts what was left of it; no longer, once somebody
    puts the clock right."""
    with serving(slotted, "local", 22) as it:
        it.slot.wait(11)
        before_ns, end_ns = it.flows.now(), it.own_end_ns()
        if how == "paused":
            it.vm.machine.pause()
            time.sleep(30)
            it.vm.machine.resume()
        else:
            save(it.vm, tmp_path / "state")
            it.slot.wait(-10)
            restore(it.vm, tmp_path / "state")
            it.flows.go_on(it.vm)
        it.flows.wait_flowing(SOON_S)
        stepped_ns = it.flows.now()
        if corrected:
            it.vm.guest.set_clock(it.slot.ends_s - it.slot.left_s())
            last = it.cut(stepped_ns)
            note(record_property, f"{how}, clock put right -> last packet", last)
            assert max(last.values()) <= LEASE_S * 1000 + LATE_MS
        else:
            last = it.cut(before_ns, ends_ns=end_ns)
            late = {name: round(ms - (end_ns - before_ns) / 1e6, 1) for name, ms in last.items()}
            note(record_property, f"{how}, slot's end by the guest's own clock -> last packet", late)
            assert max(late.values()) <= LATE_MS
        told_outside(it)
        steps = it.stepped_ms(before_ns)
        assert corrected == any(by_ms >= 10_000 for by_ms in steps), steps


@pytest.mark.soak
@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S, -400 * DAY_S])
def test_a_step_of_its_own_clock_never_puts_an_end_off(
    by_s: int, slotted: Slotted, record_property: Record
) -> None:
    """Nobody stamps the time.  A step back leaves the end where it was, one forward is believed, and a time
    that is before the policy's is none."""
    with serving(slotted, "local", STEADY_S + 26) as it:
        it.slot.wait(12)
        begun_ns, end_ns = it.flows.now(), it.own_end_ns()
        step(it, by_s)
        last = it.cut(begun_ns, ends_ns=end_ns if by_s == -HOUR_S else 0)
        if by_s == -HOUR_S:
            last = {name: round(ms - (end_ns - begun_ns) / 1e6, 1) for name, ms in last.items()}
            note(record_property, "slot's end -> last packet, after -1 h", last)
            assert max(last.values()) <= LATE_MS
            assert min(last.values()) >= -LEASE_S * 1000
        else:
            note(record_property, f"clock set {by_s} s ahead -> last packet", last)
            assert max(last.values()) <= LEASE_S * 1000 + LATE_MS
        told = {HOUR_S: "hours.outside", -HOUR_S: "hours.clock-set-back"}.get(by_s, "hours.time-unknown")
        assert told in findings(it.vm.journal("decision.changed")[-1:])
        # by its own clock, too, which may have been set a little late
        while (since_ns := it.flows.now()) < end_ns + 10**9:
            time.sleep(0.2)
        step(it, -HOUR_S)
        stays_closed(it, dict.fromkeys(last, 0.0), since_ns)
        newest = it.vm.journal("decision.changed")[-1:]
        assert "hours.clock-set-back" in findings(newest)
        assert newest[0]["body"]["posture"] == "quarantined"
        steps = it.stepped_ms(begun_ns)
        assert any(one < (10 - HOUR_S) * 1000 for one in steps) or by_s == -400 * DAY_S, steps


def step(it: Serving, by_s: int) -> None:
    """Somebody with uid 0 sets the guest's clock so many seconds beside the true time."""
    it.vm.guest.set_clock(it.slot.ends_s - it.slot.left_s() + by_s)


def rtc(unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def sends(vm: Machine) -> bool:
    """Whether the VM can send something; its gate refuses with EPERM."""
    said = vm.guest.py(
        "import socket\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:\n"
        "    try:\n"
        f"        out.sendto(b'x', ('{USER_GATEWAY}', 9))\n"
        "    except PermissionError:\n"
        "        print('refused')\n"
    )
    return "refused" not in said
