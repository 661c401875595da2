# SPDX-License-Identifier: Apache-2.0
"""What the watcher tells of a host that does not answer as it should."""

import pytest

from vmwarden.model.message import RawStatement
from vmwarden.model.moment import Moment
from vmwarden.model.statement import Audience, Challenge, StatementReply
from vmwarden.rules import canonical
from vmwarden.watcher.conversation import ANSWER_MS, Conversation

QUESTION = Challenge(aud=Audience(vm="payments-1", generation=1), nonce="n" * 43)


def at(boot_ms: int) -> Moment:
    return Moment(boot_ms=boot_ms, utc_ms=1_795_435_200_000 + boot_ms, boot_id="boot")


def finding(talk: Conversation, boot_ms: int, *, unfinished: int = 0, garbage: int = 0) -> str | None:
    told = talk.overdue(at(boot_ms), unfinished=unfinished, garbage=garbage)
    return None if told is None else told.evidence[0].finding


def test_a_question_is_overdue_once() -> None:
    talk = Conversation("virtio-serial")
    talk.ask(QUESTION, turn=1, now=at(0))
    waiting = [talk.waiting]
    assert finding(talk, ANSWER_MS - 1) is None
    assert finding(talk, ANSWER_MS) == "channel.silent"
    waiting.append(talk.waiting)
    assert finding(talk, 9 * ANSWER_MS) is None
    assert waiting == [True, False]


@pytest.mark.parametrize("every_ms", [1_000, 4_000, 5_000, ANSWER_MS // 2 + 1])
def test_asking_again_does_not_give_the_host_more_time(every_ms: int) -> None:
    talk = Conversation("virtio-serial")
    told = []
    for now in range(0, 4 * ANSWER_MS, 500):
        if now % every_ms == 0:
            talk.ask(QUESTION, turn=now, now=at(now))
        if (one := finding(talk, now)) is not None:
            told.append((now, one))
    assert told
    assert told[0] == (ANSWER_MS, "channel.silent")


def test_garbage_before_the_next_question_is_not_forgotten() -> None:
    talk = Conversation("virtio-serial")
    talk.ask(QUESTION, turn=1, now=at(0))
    talk.ask(QUESTION, turn=2, now=at(ANSWER_MS - 1), garbage=3)
    assert finding(talk, ANSWER_MS) == "channel.garbled"


def test_half_an_answer_is_slow() -> None:
    talk = Conversation("virtio-serial")
    talk.ask(QUESTION, turn=1, now=at(0))
    assert finding(talk, ANSWER_MS, unfinished=12) == "channel.slow"


def test_an_answer_ends_the_question_and_a_new_one_has_all_its_time() -> None:
    talk = Conversation("virtio-serial")
    talk.ask(QUESTION, turn=1, now=at(0))
    heard = talk.hear(canonical.encode(StatementReply(jws="a.b.c")))
    assert isinstance(heard, RawStatement)
    talk.ask(QUESTION, turn=2, now=at(ANSWER_MS))
    assert finding(talk, 2 * ANSWER_MS - 1) is None
    assert finding(talk, 2 * ANSWER_MS) == "channel.silent"
