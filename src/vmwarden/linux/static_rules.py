# SPDX-License-Identifier: Apache-2.0
"""Table inet vmwarden in the kernel: loaded from text by nft, and where the kernel can do that, kept.

Kept: the table belongs to a socket of ours, so that `nft flush ruleset` passes it by and nobody else can
change it, and it persists, so that it stays when the socket goes.  Whose table it is, only its socket may
change, and nft has another: to be filled, the table has to be let go for as long as nft takes.
"""

from collections.abc import Sequence

from vmwarden.errors import CommandFailed, ControlFailed
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection, Message, NetlinkRefused
from vmwarden.linux.nft import BRIDGE_TABLE
from vmwarden.rules.flat import flat, names
from vmwarden.rules.ruleset import TABLE


class StaticRules:
    """One thread.  All methods raise ControlFailed (NetlinkRefused, CommandFailed)."""

    def __init__(self, connection: Connection, *, kept: bool, keeper: Connection | None = None) -> None:
        """kept: what nft.persist_works says.  keeper: the socket that owns the table already."""
        self._connection = connection
        self._kept = kept
        self._keeper = keeper

    def put(self, text: str, *, exchange: bool) -> bool:
        """The rules of text and no others, in one transaction; a file of vmwarden.rules.ruleset.  True: the
        table was made anew, and what was in its sets is gone.

        exchange: the table stands as an earlier put has made it.  Then its chains stay and each has, for
        every packet, all its old rules or all its new ones.  Otherwise the table is made anew: a deleted and
        a new chain are both at the hook for a moment, and a packet may meet either, both or none.  Another
        table closes meanwhile where this one is kept.  Raises Malformed too.
        """
        if self._kept:
            exchange = self._put_kept(text)
        else:
            again = "" if exchange else f"delete table inet {TABLE}\nadd table inet {TABLE}\n"
            nft.load(f"add table inet {TABLE}\n{again}{flat(text)}")
        if not nft.standing(self._connection, TABLE):
            # nft has no objection to an empty file, and none to one that was cut off between two lines
            raise ControlFailed("nft took them, and they make no table")
        nft.delete(self._connection, BRIDGE_TABLE)
        return not exchange

    def commit(self, messages: Sequence[Message], *, what: str) -> None:
        """Change what is in the table's sets."""
        (self._keeper or self._connection).commit(messages, what=what)

    def shut(self) -> None:
        """Close all but loopback until put has been called: somebody has deleted the table."""
        nft.shut(self._connection)

    @property
    def keeper(self) -> int | None:
        """The descriptor of the socket that owns the table."""
        return self._keeper.fileno() if self._keeper is not None else None

    def close(self) -> None:
        """Let go of the table: it stays."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def _put_kept(self, text: str) -> bool:
        """Whether the table is the one that stood."""
        self.close()
        try:
            if nft.lasts(self._connection, TABLE):
                gone = nft.chains(self._connection, TABLE) - names(text)
                try:
                    nft.load(flat(text, leftovers=sorted(gone)))
                except CommandFailed:
                    pass  # another version's table: its parts have other types
                else:
                    return True
            self._anew(text)
            return False
        finally:
            if nft.lasts(self._connection, TABLE):
                self._keeper = Connection()
                nft.own(self._keeper, TABLE)

    def _anew(self, text: str) -> None:
        if nft.standing(self._connection, TABLE):
            bridge = f"inet {BRIDGE_TABLE}"
            nft.load(
                f"add table {bridge}\ndelete table {bridge}\nadd table {bridge}\n"
                + flat(text, table=BRIDGE_TABLE)
            )
        try:
            nft.make_lasting(self._connection, TABLE)
        except NetlinkRefused:
            nft.delete(self._connection, BRIDGE_TABLE)  # it is another warden's, and closed by that
            raise
        nft.load(flat(text))
