# SPDX-License-Identifier: Apache-2.0
"""One gathering: every source asked once."""

from collections.abc import Iterable, Iterator

from vmwarden.model.message import Declared, RawStatement, ToWarden
from vmwarden.model.moment import Moment
from vmwarden.ports.source import Source
from vmwarden.ports.tree import Tree


def gather(sources: Iterable[Source], tree: Tree, *, turn: int, now: Moment) -> Iterator[ToWarden]:
    """Messages in the order in which sources speak."""
    for source in sources:
        yield Declared(turn=turn, source=source.name, evidence=source.read(tree, now))
        for jws in source.statements(tree):
            yield RawStatement(turn=turn, source=source.name, jws=jws, boot_frozen=True)
