# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.errors import Malformed, TooLarge
from vmwarden.rules.frame import MESSAGE_BYTES, Receiver, frame


def test_a_frame_begins_and_ends_with_a_line_feed() -> None:
    assert frame(b'{"a":1}') == b'\n{"a":1}\n'


@pytest.mark.parametrize("message", [b"", b"[]", b"{", b'{"a":\n1}', b"{}\n"])
def test_what_is_no_object_on_one_line_is_not_sent(message: bytes) -> None:
    with pytest.raises(Malformed):
        frame(message)


def test_the_longest_message_passes_and_one_byte_more_is_refused() -> None:
    longest = b'{"' + b"x" * (MESSAGE_BYTES - 4) + b'"}'
    assert Receiver().feed(frame(longest)) == (longest,)
    with pytest.raises(TooLarge):
        frame(longest + b"}")


def test_one_byte_at_a_time() -> None:
    receiver = Receiver()
    got = [m for byte in frame(b'{"a":1}') + frame(b'{"b":2}') for m in receiver.feed(bytes([byte]))]
    assert got == [b'{"a":1}', b'{"b":2}']
    assert receiver.garbage == 0


def test_half_a_message_of_a_peer_that_died_costs_nothing_of_the_next() -> None:
    receiver = Receiver()
    assert receiver.feed(b'\n{"half":') == ()
    assert receiver.unfinished == 8
    assert receiver.feed(frame(b'{"a":1}')) == (b'{"a":1}',)
    assert (receiver.garbage, receiver.unfinished) == (1, 0)


def test_restart_forgets_half_a_message() -> None:
    receiver = Receiver()
    receiver.feed(b'\n{"half":')
    receiver.restart()
    assert receiver.feed(b'{"a":1}\n') == (b'{"a":1}',)
    assert receiver.garbage == 1


def test_an_endless_line_is_discarded_up_to_its_end_and_counted_once() -> None:
    receiver = Receiver()
    for _ in range(40):
        assert receiver.feed(b"{" * 4096) == ()
    assert receiver.garbage == 1
    assert receiver.feed(b'}\n{"a":1}\n') == (b'{"a":1}',)
    assert receiver.garbage == 1


def test_garbage_is_counted_while_it_still_comes_in_and_can_be_counted_anew() -> None:
    receiver = Receiver()
    receiver.feed(b"\x00\xff")
    assert (receiver.garbage, receiver.unfinished) == (1, 0)
    receiver.feed(b"\n")
    assert receiver.garbage == 1
    receiver.forget()
    assert receiver.garbage == 0
