# SPDX-License-Identifier: Apache-2.0
"""One look, without a warden: everything that the watcher would bring in one turn."""

import select
from collections.abc import Iterable, Sequence

from vmwarden.errors import ChannelDown
from vmwarden.model.message import ToWarden
from vmwarden.model.statement import Challenge
from vmwarden.ports.channel import Way
from vmwarden.ports.clock import Clock
from vmwarden.ports.source import Source
from vmwarden.ports.tree import Tree
from vmwarden.watcher.conversation import Conversation
from vmwarden.watcher.gather import gather


def look(
    sources: Iterable[Source],
    tree: Tree,
    ways: Sequence[Way],
    *,
    challenge: Challenge | None,
    clock: Clock,
    bound_ms: int,
) -> tuple[ToWarden, ...]:
    """Ask every source once and every host once; the hosts get bound_ms milliseconds together."""
    heard: list[ToWarden] = list(gather(sources, tree, turn=1, now=clock.now()))
    if challenge is None:
        return tuple(heard)
    until = clock.now().boot_ms + bound_ms
    for way in ways:
        heard.append(_ask(way, challenge, clock=clock, until=until))
    return tuple(heard)


def _ask(way: Way, challenge: Challenge, *, clock: Clock, until: int) -> ToWarden:
    talk = Conversation(way.name)
    try:
        channel = way.open()
    except ChannelDown as error:
        return talk.absent(str(error), "channel.absent", clock.now())
    try:
        channel.send(talk.ask(challenge, turn=1, now=clock.now()))
        while (left := until - clock.now().boot_ms) > 0:
            poll = select.poll()
            poll.register(channel.fileno(), select.POLLIN)
            poll.poll(min(left, 100))
            for message in channel.receive():
                statement = talk.hear(message)
                if statement is not None:
                    return statement
    except ChannelDown as error:
        return talk.absent(str(error), "channel.down", clock.now())
    finally:
        channel.close()
    return talk.absent("no answer in time", "channel.silent", clock.now())
