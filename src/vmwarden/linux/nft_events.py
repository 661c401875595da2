# SPDX-License-Identifier: Apache-2.0
"""What others do to our tables, as nf_tables tells of it."""

import os

from vmwarden.linux.netlink import EventsLost, Netlink, attributes, replies
from vmwarden.linux.nfnetlink import NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES

#: NFNLGRP_NFTABLES, as a bit; linux/netfilter/nfnetlink.h
_GROUP = 1 << (7 - 1)
_NFGEN_SIZE = 4
_NEWGEN = 15  # NFT_MSG_NEWGEN: ends what is told of one transaction
#: every object names its table in its first attribute: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, …
_TABLE = 1
_GEN_PROC_PID = 2


class RulesetEvents:
    """What happens to the rules of this network namespace, from when this is made."""

    def __init__(self, tables: frozenset[str]) -> None:
        """tables: those that matter.  Raises ControlFailed."""
        self._tables = frozenset(name.encode() + b"\0" for name in tables)
        self._netlink = Netlink(NETLINK_NETFILTER, what="netlink to the rules' events", groups=_GROUP)
        self._own = os.getpid()
        self._named = False

    def fileno(self) -> int:
        """Readable when something happened, also by ourselves."""
        return self._netlink.fileno()

    def close(self) -> None:
        self._netlink.close()

    def touched(self) -> bool:
        """Whether another process has changed one of the tables since the last time, or may have.

        A program that was run by this process is another, too.  Raises ControlFailed.
        """
        touched = False
        while True:
            try:
                datagram = self._netlink.heard()
            except EventsLost:
                touched = True
                continue
            if not datagram:
                return touched
            for reply in replies(datagram):
                if reply.kind >> 8 != NFNL_SUBSYS_NFTABLES:
                    continue
                fields = dict(attributes(reply.payload[_NFGEN_SIZE:]))
                if reply.kind & 0xFF == _NEWGEN:
                    by = int.from_bytes(fields.get(_GEN_PROC_PID, b""), "big")
                    touched |= self._named and by != self._own
                    self._named = False
                else:
                    self._named |= fields.get(_TABLE, b"") in self._tables
