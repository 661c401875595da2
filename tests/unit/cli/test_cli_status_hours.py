# SPDX-License-Identifier: Apache-2.0
"""vmwarden status for people: what it says of the hours."""

from vmwarden.cli.daemon import text_of
from vmwarden.model.control import Status
from vmwarden.model.decision import Decision
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding, Verdict

FOUND = "closed until 2026-11-24T07:00:00Z, by the VM's own clock"


def rows(*, scheduled: bool) -> dict[str, str]:
    told = Finding(id="hours.outside", answer=Answer.DENY, found=FOUND)
    service = Finding(id="hours.open", answer=Answer.ALLOW, subject="backup", found="backup: open")
    hours = Verdict(fence="hours", answer=Answer.DENY, findings=(told, service), scheduled=scheduled)
    status = Status(
        schema="vmwarden.status/1",
        vm="office-1",
        tier=0,
        mode="enforce",
        armed=True,
        enrolled=True,
        posture=Posture.QUARANTINED,
        posture_since="",
        settled=True,
        last_verified="",
        decision=Decision(
            posture=Posture.QUARANTINED, answer=Answer.DENY, verdicts=(hours,), scheduled=scheduled
        ),
    )
    words = [line.split("  ", 1) for line in text_of(status).splitlines()]
    return {name.strip(): rest.strip() for name, rest in words}


def test_closed_as_scheduled_is_told_with_the_next_opening() -> None:
    assert rows(scheduled=True)["verdict"] == "deny, as scheduled"
    assert rows(scheduled=True)["hours"] == FOUND


def test_an_incident_is_not_told_as_scheduled() -> None:
    assert rows(scheduled=False)["verdict"] == "deny"
