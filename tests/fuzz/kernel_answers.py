# SPDX-License-Identifier: Apache-2.0
"""Targets: what the kernel answers."""

import errno
import itertools
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial

from tests.fuzz.engine import Target
from tests.fuzz.kernel import (
    AnsweredConnection,
    AnsweredLinkEvents,
    AnsweredLinks,
    AnsweredRulesetEvents,
    AnsweredSockDiag,
    AnsweringKernel,
    acknowledgement,
    message,
    recorded,
)
from vmwarden.controls.way_around import WayAround
from vmwarden.errors import ControlFailed
from vmwarden.linux import nft, own_addresses
from vmwarden.linux.netlink import attribute, nested
from vmwarden.linux.nfnetlink import NFPROTO_INET, NFPROTO_NETDEV, Message
from vmwarden.model.link import Uplink
from vmwarden.rules import canonical
from vmwarden.rules.netdev_ruleset import TABLE as DEVICES
from vmwarden.rules.ruleset import ALIVE_TABLE, TABLE
from vmwarden.rules.uplinks import uplinks


def _once(name: str) -> Sequence[bytes]:
    return [recorded(name)]


def _with_ends() -> Sequence[bytes]:
    return [recorded("sockets"), recorded("sockets") + acknowledgement(errno.ENOENT)]


class _AnsweredWayAround(WayAround):
    def __init__(self, answers: bytes) -> None:
        self._links = AnsweredLinks(answers)


def _devices(data: bytes) -> None:
    found = uplinks(AnsweredLinks(data).all(), stands_in=lambda link: link.kind == "veth")
    AnsweredLinks(data).filters()
    # what is found goes into the record, whatever a device calls itself
    for finding in _AnsweredWayAround(data).look(found or (Uplink(5, "eth0"),)):
        canonical.encode(finding)


def _with_filters() -> Sequence[bytes]:
    """The kernel on which the answers were recorded has no classifiers: as include/uapi has them."""
    clsact = struct.pack("=BxxxiIII", 0, 5, 0xFFFF0000, 0xFFFFFFF1, 0) + attribute(1, b"clsact\0")
    parent = struct.pack("=BxxxiIII", 0, 5, 1, 0xFFFFFFF2, 0)
    mirred = nested(2, nested(1, attribute(1, b"mirred\0")))
    filters = (parent + attribute(1, b"bpf\0") + nested(2), parent + attribute(1, b"u32\0") + mirred)
    queues = message(36, clsact) + b"".join(message(44, each) for each in filters)
    return [recorded("devices"), recorded("devices") + queues, queues]


def _link_events(data: bytes) -> None:
    for event in AnsweredLinkEvents(data).read():
        assert event.link.index is not None


def _rules(data: bytes) -> None:
    for family, tables in ((NFPROTO_INET, (TABLE, ALIVE_TABLE)), (NFPROTO_NETDEV, (DEVICES,))):
        for table in tables:
            connection = AnsweredConnection(data)
            canonical.encode(nft.digests(connection, table, family=family))
            nft.digest(connection, table, family=family)
            canonical.encode(nft.dropped(connection, table, family=family))
            nft.base_chains(connection, table, family=family)
            nft.standing(connection, table, family=family)
            assert nft.left(connection, table, nft.LEASE_SET, family=family) >= 0
            if family == NFPROTO_INET:
                nft.owned_by_us(connection, table)
                nft.lasts(connection, table)
                canonical.encode(nft.chains(connection, table))
    nft.running(AnsweredConnection(data))
    nft.generation(AnsweredConnection(data))


def _rules_events(data: bytes) -> None:
    AnsweredRulesetEvents(data, (TABLE, ALIVE_TABLE)).touched()


def _sockets(data: bytes) -> None:
    gone = acknowledgement(errno.ENOENT)
    diag = AnsweredSockDiag(data, data if len(data) % 2 else gone)
    diag.tcp()
    for protocol in diag.shown():
        for batch in diag.flows(protocol):
            diag.destroy(batch)
    diag.can_destroy()


def _routes(data: bytes) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        own_addresses._local(AnsweringKernel(data), family)


def _answers(data: bytes) -> None:
    acts: tuple[Callable[[AnsweredConnection], object], ...] = (
        lambda to: to.commit([Message(1, b""), Message(2, b"")], what="an act"),
        lambda to: to.get(16, what="a question"),
        lambda to: to.dump(1, b"", what="a dump"),
    )
    for last, act in itertools.product((0, 1), acts):
        try:
            act(AnsweredConnection(data, last=last))
        except ControlFailed as error:
            canonical.encode(str(error))


def _acknowledgements() -> Sequence[bytes]:
    said = acknowledgement(17, said=b"File exists")
    return [acknowledgement(), said, acknowledgement(1) + acknowledgement(), said + recorded("routes")]


def _target(
    name: str,
    seeds: Callable[[], Sequence[bytes]],
    run: Callable[[bytes], object],
    *,
    header: int,
    counts: tuple[int, int],
) -> Target:
    return Target(
        name=name, seeds=seeds, run=run, raises=(ControlFailed,), form="netlink", header=header, counts=counts
    )


#: header: of struct ifinfomsg, nfgenmsg, inet_diag_msg, rtmsg, nlmsgerr
TARGETS = (
    _target("devices", _with_filters, _devices, header=16, counts=(250, 22_000)),
    _target("device-events", partial(_once, "link events"), _link_events, header=16, counts=(250, 35_000)),
    _target("rules", partial(_once, "rules"), _rules, header=4, counts=(40, 5_000)),
    _target("rules-events", partial(_once, "rules' events"), _rules_events, header=4, counts=(300, 45_000)),
    _target("sockets", _with_ends, _sockets, header=56, counts=(700, 80_000)),
    _target("local-routes", partial(_once, "routes"), _routes, header=12, counts=(700, 150_000)),
    _target("acknowledgements", _acknowledgements, _answers, header=20, counts=(700, 150_000)),
)
