# SPDX-License-Identifier: Apache-2.0
"""Every wrong word of a host, and every kind of silence: refused in time, and each by its own name."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from testbed.warded import findings
from tests.vm.warded import RECHECK_S, Behaviour, Warded, WardedVm
from vmwarden.watcher.conversation import ANSWER_MS

pytestmark = pytest.mark.vm

#: a host's time to answer, the pause until it is asked, and emulation
BOUND_S = 30.0
NEXT_QUESTION_S = RECHECK_S / 3
DENIED, UNKNOWN = "held: deny", "held: unknown"

WRONG_WORDS = {
    Behaviour.WRONG_COUNTRY: (DENIED, "place.country.mismatch"),
    Behaviour.WRONG_POSTAL_CODE: (DENIED, "place.postal_code.mismatch"),
    Behaviour.WRONG_TIME_ZONE: (DENIED, "place.time_zone.mismatch"),
    Behaviour.EXPIRED: (UNKNOWN, "statement.expired"),
    Behaviour.UNKNOWN_KEY: (UNKNOWN, "statement.unknown-key"),
    Behaviour.OTHER_VM: (UNKNOWN, "statement.other-vm"),
    Behaviour.OTHER_GENERATION: (UNKNOWN, "statement.other-generation"),
    Behaviour.REPLAYED: (UNKNOWN, "statement.replayed"),
    Behaviour.NO_NONCE: (UNKNOWN, "statement.no-nonce"),
    Behaviour.SILENT: (UNKNOWN, "channel.silent"),
    Behaviour.GARBAGE: (UNKNOWN, "channel.garbled"),
    Behaviour.OVERSIZED: (UNKNOWN, "channel.garbled"),
    Behaviour.SLOW: (UNKNOWN, "channel.slow"),
}
#: what they answer to the first question shows at once; these show when the host's time is up
LATE = {"channel.silent", "channel.garbled", "channel.slow"}
NAMED = {finding for _, finding in WRONG_WORDS.values()} | {"channel.absent", "place.country.contradicted"}


def closed_for(vm: Warded, finding: str) -> None:
    """Closed but for manage, and the record says so by this name and no other of the list."""
    assert vm.manage_answers(), "the owner's way in is closed"
    assert not vm.service_answers(1.0), "the service answers"
    last = vm.journal("decision.changed")[-1:]
    assert last[0]["body"]["posture"] == "held"
    assert findings(last) & NAMED == {finding}


@pytest.mark.parametrize("behaviour", list(WRONG_WORDS))
def test_a_wrong_word_is_refused_by_its_name(
    behaviour: Behaviour, warded_vm: WardedVm, record_property: Callable[[str, object], None]
) -> None:
    verdict, finding = WRONG_WORDS[behaviour]
    with warded_vm.clone() as vm, warded_vm.host(behaviour=behaviour) as host:
        assert host.wait_for_challenges(1, BOUND_S), "the VM never asked"
        asked = time.monotonic()
        said = vm.said(rf"vmwarden: posture {verdict}: .*{finding}[ ;(].*", BOUND_S)
        took = time.monotonic() - asked
        record_property("asked_to_refused_s", round(took, 2))
        assert took <= (ANSWER_MS / 1000 + NEXT_QUESTION_S if finding in LATE else 5.0)
        assert "posture open" not in vm.machine.console()
        closed_for(vm, finding)
        assert said.group(0)


def test_no_host_at_all_is_refused_by_its_name(warded_vm: WardedVm) -> None:
    with warded_vm.clone() as vm:
        vm.kill()
        vm.start()
        vm.said(r"vmwarden: posture held: unknown: .*channel\.absent", BOUND_S)
        closed_for(vm, "channel.absent")


def test_two_statements_that_contradict(warded_vm: WardedVm) -> None:
    netherlands = {"country": "NL", "subdivision": None, "postal_code": "1012 AB"}
    with warded_vm.clone(static=warded_vm.static()) as vm:
        # Germany by the static statement alone, for which this policy opens
        vm.said(r"vmwarden: posture open: allow", BOUND_S)
        assert vm.service_answers()
        with warded_vm.host(facts=netherlands):
            vm.said(r"vmwarden: posture held: deny: .*place\.country\.contradicted", BOUND_S)
            closed_for(vm, "place.country.contradicted")


def test_the_right_word_opens(warded_vm: WardedVm) -> None:
    with warded_vm.clone() as vm:
        assert vm.manage_answers()
        assert not vm.service_answers(1.0), "open before anybody vouched for the place"
        with warded_vm.host() as host:
            vm.said(r"vmwarden: posture open: allow", BOUND_S)
            assert vm.service_answers()
            host.behaviour = Behaviour.WRONG_COUNTRY
            vm.said(r"vmwarden: posture held: deny: .*place\.country\.mismatch", BOUND_S)
            closed_for(vm, "place.country.mismatch")
            host.behaviour = Behaviour.HONEST
            vm.said(r"(?s)held: deny.*posture open: allow", BOUND_S)
            assert vm.service_answers()
