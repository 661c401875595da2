# SPDX-License-Identifier: Apache-2.0
"""The hours, held by a warden: the kernel's lease ends with the slot, and opening is on time."""

import datetime
from typing import Any

from tests.unit.warden.ward import Ward, policy
from vmwarden.model.hours import Interval, TimeRange
from vmwarden.model.message import Gather
from vmwarden.model.policy import FlowIn, Hours, Place, TimedService
from vmwarden.rules import canonical

_GERMANY = policy().place


def _hours(begins_in_ms: int, ends_in_ms: int, *, now_utc_ms: int, **more: object) -> Hours:
    def clock(after_ms: int) -> str:
        at = datetime.datetime.fromtimestamp((now_utc_ms + after_ms) / 1000, datetime.UTC)
        return at.strftime("%H:%M:%S")

    times = (TimeRange(start_time=clock(begins_in_ms), end_time=clock(ends_in_ms)),)
    return Hours(open=(Interval(times=times),), **more)  # type: ignore[arg-type]


def _ward(begins_in_ms: int, ends_in_ms: int, *, place: Place | None = _GERMANY, **more: object) -> Ward:
    plain = Ward()
    hours = _hours(begins_in_ms, ends_in_ms, now_utc_ms=plain.clock.now().utc_ms, **more)
    return Ward(policy(hours=hours, place=place)).start()


def _last_lease(ward: Ward) -> tuple[Any, ...]:
    """("lease", milliseconds, guarded, milliseconds for new flows)"""
    return next(act for act in reversed(ward.gate.acts) if act[0] == "lease")


def _keep_answering(ward: Ward) -> None:
    data = ward.warden.gather()
    if data is not None:
        ward.answer(canonical.decode(data, Gather, limit=65536, what="order"))


def test_the_lease_ends_with_the_slot_even_if_nobody_renews() -> None:
    ward = _ward(-60_000, 3_000)
    ward.round()
    assert ward.gate.passing() == "open"
    ward.clock.advance(3_001)
    assert ward.gate.passing() == "manage"


def test_outside_it_is_closed_by_schedule_and_opens_when_the_slot_begins() -> None:
    ward = _ward(10_000, 60_000)
    ward.round()
    assert ward.gate.passing() == "manage"
    decision = ward.warden.status().decision
    assert decision.scheduled
    assert decision.asks == ()
    ward.pass_time(9_000, step_ms=500, each=lambda: _keep_answering(ward))
    assert ward.gate.passing() == "manage"
    assert ward.warden.tick_ms() <= 1_000, "it wakes when the slot begins"
    ward.pass_time(1_500, step_ms=500, each=lambda: _keep_answering(ward))
    assert ward.gate.passing() == "open"


def test_at_the_end_of_a_slot_flows_are_ended() -> None:
    ward = _ward(-60_000, 5_000)
    ward.round()
    ward.pass_time(7_000, step_ms=500, each=lambda: _keep_answering(ward))
    assert ward.warden.status().posture == "quarantined"
    assert [act[0] for act in ward.flows.acts][:1] == ["begin"]
    assert any(act[0] == "end_flows" for act in ward.gate.acts)


def test_in_a_drain_new_flows_have_no_lease() -> None:
    ward = _ward(-60_000, 20_000, drain="10s")
    ward.round()
    ward.pass_time(12_000, step_ms=1_000, each=lambda: _keep_answering(ward))
    lease = _last_lease(ward)
    assert lease[1] > 0
    assert lease[3] == 0


def test_a_drain_is_in_the_lease_before_it_begins() -> None:
    """A warden that dies just before drains and closes on time all the same."""
    ward = _ward(-60_000, 20_000, drain="17s")
    ward.round()
    lease = _last_lease(ward)
    assert 0 < lease[3] < lease[1]
    assert lease[3] <= 3_000


def test_a_wrong_place_in_a_slot_is_an_incident_and_no_schedule() -> None:
    ward = _ward(-60_000, 600_000)
    ward.round(country="FR")
    decision = ward.warden.status().decision
    assert not decision.scheduled
    assert ward.gate.passing() == "manage"


def test_a_clock_put_back_is_recorded_and_opens_nothing_again() -> None:
    # without a host's stamps the VM's own clock is all there is
    ward = _ward(-600_000, 90_000, place=None)
    ward.gathered(ward.order())
    ward.pass_time(80_000)
    assert ward.gate.passing() == "open"
    ward.pass_time(20_000)
    assert ward.gate.passing() == "manage"
    ward.clock.step_utc(-50_000)
    ward.pass_time(5_000)
    assert ward.gate.passing() == "manage"
    assert "clock.stepped" in ward.kinds()


def test_what_was_read_of_time_zones_is_recorded_once() -> None:
    ward = _ward(-60_000, 60_000, time_zone="Europe/Berlin")
    ward.warden.reload()
    told = [record.body for record in ward.journal.records if record.kind == "hours.loaded"]
    assert len(told) == 1
    assert told[0]["zones"] == ["Europe/Berlin"]
    assert told[0]["tzdata"]


def _with_service(begins_in_ms: int, ends_in_ms: int) -> Ward:
    """The rest is open in these; the service always."""
    service = TimedService(name="web", in_=(FlowIn(from_="10.0.0.0/8", tcp=8443),), open=(Interval(),))
    return _ward(begins_in_ms, ends_in_ms, services=(service,))


def test_a_service_passes_beside_a_rest_that_the_calendar_closes() -> None:
    ward = _with_service(10_000, 60_000)
    ward.round()
    assert ward.gate.passing() == "manage"
    assert ward.gate.services is not None
    assert ward.gate.services.passing["web"] > 0
    assert ward.warden.status().decision.scheduled
    ward.pass_time(11_000, step_ms=500, each=lambda: _keep_answering(ward))
    assert ward.gate.passing() == "open"
    assert ward.gate.services.passing["web"] > 0


def test_no_service_passes_in_a_wrong_place() -> None:
    ward = _with_service(-60_000, 600_000)
    ward.round()
    assert ward.gate.services is not None
    ward.pass_time(21_000)
    ward.round(country="FR")
    assert ward.gate.acts[-1] == ("flush",)
    ward.pass_time(2_000)
    assert ward.gate.acts[-1] == ("flush",)
