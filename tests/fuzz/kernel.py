# SPDX-License-Identifier: Apache-2.0
"""A kernel that answers with what it is given, and the recorded answers of a real one.

`python -m tests.fuzz.kernel` (as root) records answers.json anew, in network namespaces of its own: the
first layer, the second, links of many kinds, queues with filters, sockets, routes, and events of all that.
"""

import base64
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from vmwarden.errors import ControlFailed
from vmwarden.linux.netlink import NLMSG_DONE, NLMSG_ERROR, Netlink
from vmwarden.linux.nfnetlink import NFNL_SUBSYS_NFTABLES, Connection
from vmwarden.linux.nft_events import RulesetEvents
from vmwarden.linux.rtnetlink import LinkEvents, Links
from vmwarden.linux.sock_diag import SockDiag

ANSWERS = Path(__file__).parent / "answers.json"
#: the port of our socket, as it stands in recorded answers (a table's owner)
PORT = 4711
_HEADER = struct.Struct("=IHHII")
#: recorded messages of one kind and family
_OF_A_KIND = 8
_NFT = NFNL_SUBSYS_NFTABLES << 8
#: request -> the kind of what it gives: NFT_MSG_GET* -> NEW*, RTM_GET* -> NEW*
_GIVES = {_NFT | get: _NFT | get - 1 for get in (1, 4, 7, 10, 13, 16)} | {
    get: get - 2 for get in (18, 26, 38, 46)
}
_GIVEN = frozenset(_GIVES.values())


@cache
def recorded(name: str) -> bytes:
    """Messages of the kernel, one after the other; their sequence number is 0."""
    return zlib.decompress(base64.b85decode(json.loads(ANSWERS.read_text())[name]))


def message(kind: int, payload: bytes, *, flags: int = 0) -> bytes:
    """One message of the kernel, with the sequence number that is waited for."""
    length = 16 + len(payload)
    return _HEADER.pack(length, kind, flags, 0, PORT) + payload + b"\0" * (-length % 4)


def acknowledgement(number: int = 0, *, said: bytes = b"") -> bytes:
    """What the kernel answers to an act.  number: errno.  said: in words."""
    echoed = _HEADER.pack(16, _NFT, 0, 0, PORT)
    words = struct.pack("=HH", 4 + len(said) + 1, 1) + said + b"\0" if said else b""
    return message(NLMSG_ERROR, struct.pack("=i", -number) + echoed + words, flags=0x300 if said else 0x100)


class AnsweringKernel(Netlink):
    """A netlink socket without a kernel.  What is asked for gets the messages of its kind."""

    def __init__(self, answers: bytes, *, last: int = 0) -> None:
        """answers: messages; sequence number 0 stands for the one that is waited for, last messages before
        the end of a batch.  After an answer to a dump the kernel says that it is done."""
        self._unasked = answers
        self._answers = [(one, _kinds(one), one[16:17]) for one in _split(answers)]
        self._last = last
        self._queue: list[bytes] = []
        self.port = PORT
        self.sequence = 0

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._queue.clear()

    def send(self, datagram: bytes, what: str) -> None:
        (_, kind, _, _, _) = _HEADER.unpack_from(datagram)
        wanted, family = _GIVES.get(kind), datagram[16]
        given = b"".join(
            one
            for one, kinds, its in self._answers
            if wanted is None or (wanted in kinds and family in (0, *its))
        )
        self._queue = [self._renumbered(given), self._renumbered(message(NLMSG_DONE, bytes(4)))]

    def receive(self, deadline: float, what: str) -> bytes:
        if not self._queue:
            raise ControlFailed(f"{what}: no answer")
        return self._queue.pop(0)

    def heard(self) -> bytes:
        """Events come unasked, once."""
        events, self._unasked = self._unasked, b""
        return events

    def wait(self, seconds: float) -> None:
        return

    def forget_late_answers(self) -> None:
        self._queue.clear()

    def _renumbered(self, datagram: bytes) -> bytes:
        whole = bytearray(datagram)
        at = 0
        while at + 16 <= len(whole):
            length, _, _, sequence, _ = _HEADER.unpack_from(whole, at)
            if sequence == 0:
                struct.pack_into("=I", whole, at + 8, self.sequence - self._last)
            if length < 16:
                break
            at += (length + 3) & ~3
        return bytes(whole)


def _kinds(one: bytes) -> tuple[int | None, ...]:
    """For which dumps a message is an answer: its own, or, where it is of no known kind, all."""
    kind: int = _HEADER.unpack_from(one)[1]
    return (kind,) if kind in _GIVEN else (None, *_GIVEN)


def _split(stream: bytes) -> list[bytes]:
    """Whole messages; what cannot be split is one."""
    found, at = [], 0
    while at + 16 <= len(stream):
        length = _HEADER.unpack_from(stream, at)[0]
        if length < 16 or at + length > len(stream):
            break
        found.append(stream[at : at + ((length + 3) & ~3)])
        at += (length + 3) & ~3
    return [*found, stream[at:]] if len(stream) - at >= 16 else found


class AnsweredConnection(Connection):
    """To nf_tables."""

    def __init__(self, answers: bytes, *, last: int = 0) -> None:
        self._netlink = AnsweringKernel(answers, last=last)
        self.port = PORT


class AnsweredLinks(Links):
    """To the devices."""

    def __init__(self, answers: bytes) -> None:
        self._netlink = AnsweringKernel(answers)


class AnsweredLinkEvents(LinkEvents):
    """To the devices' events."""

    def __init__(self, events: bytes) -> None:
        self._netlink = AnsweringKernel(events)


class AnsweredRulesetEvents(RulesetEvents):
    """To the rules' events."""

    def __init__(self, events: bytes, tables: Iterable[str]) -> None:
        self._tables = frozenset(name.encode() + b"\0" for name in tables)
        self._netlink = AnsweringKernel(events)
        self._own = PORT
        self._named = False


class AnsweredSockDiag(SockDiag):
    """To the table of sockets."""

    def __init__(self, looks: bytes, ends: bytes) -> None:
        self._looking = AnsweringKernel(looks)
        self._ending = AnsweringKernel(ends)


# -- recording ---------------------------------------------------------------------------------------


class _Recorder(Netlink):
    """A netlink socket that keeps what the kernel said."""

    def __init__(self, protocol: int, *, groups: int = 0, strict: bool = False) -> None:
        super().__init__(protocol, what="recording", groups=groups, strict=strict)
        #: without repetitions
        self.messages: dict[bytes, None] = {}

    @property
    def kept(self) -> bytes:
        """Some of each kind, from the longest to the shortest: more of them are more of the same."""
        by_kind: dict[tuple[int, int], list[bytes]] = {}
        for one in self.messages:
            by_kind.setdefault((_HEADER.unpack_from(one)[1], one[16]), []).append(one)
        some: list[bytes] = []
        for same in by_kind.values():
            same.sort(key=len, reverse=True)
            some += same[:: max(1, len(same) // _OF_A_KIND)][:_OF_A_KIND]
        return b"".join(some)

    def receive(self, deadline: float, what: str) -> bytes:
        datagram = super().receive(deadline, what)
        self._keep(datagram)
        return datagram

    def heard(self) -> bytes:
        datagram = super().heard()
        self._keep(datagram)
        return datagram

    def _keep(self, datagram: bytes) -> None:
        for one in _split(datagram):
            length, kind, flags, _, _ = _HEADER.unpack_from(one)
            if kind != NLMSG_DONE:
                self.messages[_HEADER.pack(length, kind, flags & ~0x10, 0, PORT) + one[16:]] = None


class _RecordedConnection(Connection):
    def __init__(self) -> None:
        self._netlink = self.recorder = _Recorder(12)
        self.port = self.recorder.port


def record() -> dict[str, str]:
    """Answers of this kernel.  Needs root."""
    # here, because fuzzing needs neither: tests of the gate in namespaces of their own
    from tests.integration import gate_around
    from tests.integration.gate_policy import gate_policy, uids
    from vmwarden.controls.second_layer import SecondLayer
    from vmwarden.linux import nft
    from vmwarden.rules.netdev_ruleset import PRIORITY
    from vmwarden.rules.netdev_ruleset import TABLE as DEVICES
    from vmwarden.rules.ruleset import TABLE, closed
    from vmwarden.testing.network import lan

    found: dict[str, bytes] = {}
    with lan() as net, net.vm.entered():
        rules, links = _Recorder(12, groups=1 << 6), _Recorder(0, groups=1)
        nft.load(closed(gate_policy(), users=uids(["prober"])))
        second = SecondLayer(uids)
        second.install(gate_policy())
        first = Connection()
        nft.make_alive(first, owned=True)
        nft.renew(first, 20_000, guarded=False)
        second.lease(20_000, guarded=True)
        named = nft.new_device_chain(
            DEVICES, "in_2", hook=nft.DEVICE_INGRESS, priority=PRIORITY, device="eth0"
        )
        first.commit([named], what="a chain at a device")
        for words in (
            "link add vmwf0 type veth peer name vmwf1",
            "link add vmwf2 type bridge",
            "link set vmwf0 master vmwf2",
            "link set vmwf0 up",
            "link add vmwf3 type bond",
            "link add vmwf5 link vmwf0 type vlan id 7",
            "link add vmwf6 type ifb",
            "link add vmwf4 link vmwf0 type macvlan",
            "addr add 192.0.2.1/24 dev vmwf0",
            "link set vmwf0 name vmwf9",
        ):
            net.vm.run("ip", *words.split(), check=False)  # kernels differ in their kinds of devices
        net.vm.run("tc", "qdisc", "add", "dev", "vmwf9", "clsact", check=False)
        for words in (
            "ingress matchall action mirred egress redirect dev vmwf2",
            "egress protocol ip u32 match ip dst 192.0.2.0/24 action drop",
        ):
            net.vm.run("tc", "filter", "add", "dev", "vmwf9", *words.split(), check=False)
        gate_around.attach_xdp(socket.if_nametoindex("vmwf9"), gate_around.XDP_PASS)
        net.vm.run("ip", "link", "set", "vmwf9", "netns", net.peer.name)
        net.peer.run("ip", "link", "set", "vmwf9", "netns", net.vm.name)
        while links.heard():
            pass
        while rules.heard():
            pass
        found["link events"], found["rules' events"] = links.kept, rules.kept
        net.peer.run("ip", "link", "set", "lo", "up")
        found |= {"devices": _devices(), "routes": _routes(), "sockets": _sockets(net.vm.socket)}
        dumped = _RecordedConnection()
        for table, family in ((TABLE, 1), ("vmwarden_alive", 1), (DEVICES, 5)):
            nft.digests(dumped, table, family=family)
            nft.base_chains(dumped, table, family=family)
        nft.running(dumped)
        nft.left(dumped, DEVICES, "lease_guarded", family=5)
        nft.generation(dumped)
        found["rules"] = dumped.recorder.kept.replace(struct.pack(">I", first.port), struct.pack(">I", PORT))
        first.close()
        second.close()
    return {name: base64.b85encode(zlib.compress(data, 9)).decode() for name, data in found.items()}


def _devices() -> bytes:
    links = AnsweredLinks(b"")
    links._netlink = recorder = _Recorder(0)
    links.all()
    links.filters()
    return recorder.kept


def _routes() -> bytes:
    recorder = _Recorder(0, strict=True)
    for family in (socket.AF_INET, socket.AF_INET6):
        recorder.dump(26, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 255, 0, 0, 2, 0), what="recording")
    return recorder.kept


def _sockets(opened: Callable[..., socket.socket]) -> bytes:
    listener = opened(socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    caller = opened(socket.SOCK_STREAM)
    caller.connect(listener.getsockname())
    datagrams = opened(socket.SOCK_DGRAM, socket.AF_INET6)
    datagrams.connect(("::1", 9))
    diag = AnsweredSockDiag(b"", b"")
    diag._looking = recorder = _Recorder(4)
    diag.tcp()
    for protocol in diag.shown():
        for _ in diag.flows(protocol):
            pass
    for each in (listener, caller, datagrams):
        each.close()
    return recorder.kept


if __name__ == "__main__":
    ANSWERS.write_text(json.dumps(record(), indent=0) + "\n")
