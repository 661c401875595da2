# SPDX-License-Identifier: Apache-2.0
"""What the gate says to nf_tables: load the closed rules, hold the permit, read back what stands."""

import errno
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vmwarden.linux import nfnetlink as nl
from vmwarden.linux.nfnetlink import Connection, Message, NetlinkRefused
from vmwarden.linux.process import run
from vmwarden.rules.ruleset import (
    ALIVE_TABLE,
    DRAIN_BITS,
    GUARDED_BIT,
    HOOKS,
    JUDGE_PRIORITY,
    OPEN_BIT,
    PERMIT_PRIORITY,
    SERVICES_BIT,
)
from vmwarden.rules.sha2 import sha256

#: nft needs 20 to 30 ms for our text, 0.6 s beside a table of 5,000 elements on a slow core
NFT_WITHIN_S = 15.0

LEASE_SET = "lease"
GUARDED_SET = "lease_guarded"
DRAIN_SET = "lease_drain"
SERVICES_SET = "lease_services"
#: closes by itself while the table of the rules is made anew
BRIDGE_TABLE = "vmwarden_bridge"
_TRIAL_TABLE = "vmwarden_trial"
#: once more for each time that somebody else was faster
_DELETE_TRIES = 3
_LEASES = (LEASE_SET, GUARDED_SET, DRAIN_SET, SERVICES_SET)

# enum nf_tables_msg_types
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN = 3, 4, 5
_NEWRULE, _GETRULE = 6, 7
_NEWSET, _GETSET = 9, 10
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14
_GETGEN = 16

# enum nft_*_attributes
_TABLE_NAME, _TABLE_FLAGS, _TABLE_OWNER = 1, 2, 7
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE = 1, 2, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 4, 7
_LIST_ELEMENT = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_ID = 1, 2, 3, 4, 5, 10
_ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS = 1, 2, 3
_ELEMENT_KEY, _ELEMENT_TIMEOUT, _ELEMENT_EXPIRATION = 1, 4, 5
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 1, 2, 1, 2
_COUNTER_PACKETS = 2
_GENERATION_ID = 1

_TABLE_F_OWNER, _TABLE_F_PERSIST = 0x2, 0x4
_SET_F_TIMEOUT = 0x10
_KEY_TYPE_NF_PROTO = 2  # nft's own number of the type; the kernel only keeps it for listings
_META_PROTOCOL, _META_MARK, _META_IIF, _META_OIF, _META_NFPROTO = 1, 3, 4, 5, 15
_CMP_EQ = 0
_LOOPBACK = {"in": _META_IIF, "out": _META_OIF}
_LOOPBACK_INDEX = 1
_ELEMENTS_A_MESSAGE = 500
_REGISTER_VERDICT, _REGISTER_1 = 0, 1
_NF_DROP, _NF_ACCEPT = 0, 1
_NFT_GOTO = -4
# enum nf_inet_hooks, by the hook names of nft
_HOOK_NUMBERS = {"prerouting": 0, "forward": 2, "output": 3}
#: enum nf_dev_hooks; egress since Linux 5.16, with CONFIG_NETFILTER_EGRESS
DEVICE_INGRESS, DEVICE_EGRESS = 0, 1
#: NFPROTO_IPV4, NFPROTO_IPV6: the keys of a lease
FAMILIES = (b"\x02", b"\x0a")


def load(text: str) -> None:
    """Run a file of nft in one transaction.  Raises CommandFailed."""
    run(["nft", "-f", "-"], timeout_s=NFT_WITHIN_S, input=text.encode())


def owner_works(connection: Connection) -> bool:
    """Whether a table that belongs to a socket goes with it (Linux 5.12).  Tried; leaves nothing behind.

    Raises NetlinkRefused, ControlFailed.
    """
    trial = _trial(_TABLE_F_OWNER)
    if trial is None:
        return False
    trial.close()
    return not standing(connection, _TRIAL_TABLE)


def persist_works(connection: Connection) -> bool:
    """Whether a table can belong to a socket, so that nobody else deletes it, and stay when that goes
    (Linux 6.9).  Tried; leaves nothing behind.  Raises NetlinkRefused, ControlFailed."""
    trial = _trial(_TABLE_F_OWNER | _TABLE_F_PERSIST)
    if trial is None:
        return False
    try:
        delete(connection, _TRIAL_TABLE)
    except NetlinkRefused as refused:
        if refused.number != errno.EPERM:
            raise
    finally:
        trial.close()
    stays = standing(connection, _TRIAL_TABLE)
    delete(connection, _TRIAL_TABLE)
    return stays


def _trial(flags: int) -> Connection | None:
    """A socket that has made a table with these flags; None = this kernel has no such flags."""
    made = Connection()
    try:
        made.commit([_new_table(_TRIAL_TABLE, flags)], what="trying what this kernel can do")
    except NetlinkRefused as refused:
        made.close()
        if refused.number in (errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise
    return made


def make_lasting(connection: Connection, table: str) -> None:
    """Make the table, empty, in place of what stands: it persists, and belongs to nobody yet.

    Whoever owns a table is the only one who may change it, and nft is another socket than ours: so nft fills
    it first, and then own() takes it.  Raises NetlinkRefused, ControlFailed.
    """
    old = [_delete(table)] if standing(connection, table) else []
    connection.commit([*old, _new_table(table, _TABLE_F_PERSIST)], what=f"making table {table}")


def own(connection: Connection, table: str) -> None:
    """Take a table that persists and that nobody owns: only this connection may change or delete it from now
    on, `nft flush ruleset` passes it by.  Raises NetlinkRefused (EPERM: another owns it), ControlFailed."""
    connection.commit([_new_table(table, _TABLE_F_OWNER | _TABLE_F_PERSIST)], what=f"owning table {table}")


def lasts(connection: Connection, table: str) -> bool:
    """Whether the table stands and persists.  Raises NetlinkRefused, ControlFailed."""
    found = _table(connection, table, nl.NFPROTO_INET) or {}
    return bool(int.from_bytes(found.get(_TABLE_FLAGS, b""), "big") & _TABLE_F_PERSIST)


def chains(connection: Connection, table: str) -> frozenset[str]:
    """The names of the table's chains.  Raises NetlinkRefused, ControlFailed."""
    found = _objects(connection, _GETCHAIN, table, _CHAIN_TABLE, nl.NFPROTO_INET)
    return frozenset(nl.name(chain.get(_CHAIN_NAME, b"")) for chain in found)


def plain(table: str, name: str, keys: Iterable[bytes]) -> Message:
    """Add elements that have no end to a set of an inet table."""
    elements = b"".join(
        nl.nested(_LIST_ELEMENT, nl.nested(_ELEMENT_KEY, nl.attribute(_DATA_VALUE, key))) for key in keys
    )
    asked = _elements(table, name) + nl.nested(_ELEMENTS, elements)
    return Message(_NEWSETELEM, asked, flags=nl.NLM_F_CREATE)


def shut(connection: Connection) -> None:
    """Close all but loopback, at once: until nft has put the rules of a table back that somebody deleted.

    It takes 0.1 ms where nft takes 20 to 30.  Raises NetlinkRefused, ControlFailed.
    """
    # made, deleted and made: whether one stands may change before the kernel is told
    made = _new_table(BRIDGE_TABLE, 0)
    messages = [made, _delete(BRIDGE_TABLE), made]
    for suffix, hook in HOOKS.items():
        chain = f"shut_{suffix}"
        messages.append(_new_chain(BRIDGE_TABLE, chain, hook, JUDGE_PRIORITY))
        if (end := _LOOPBACK.get(suffix)) is not None:
            # the loopback device is the first of every network namespace
            first = (
                _expression("meta", nl.u32(2, end), nl.u32(1, _REGISTER_1)),
                _expression(
                    "cmp",
                    nl.u32(1, _REGISTER_1),
                    nl.u32(2, _CMP_EQ),
                    nl.nested(3, nl.attribute(_DATA_VALUE, struct.pack("=I", _LOOPBACK_INDEX))),
                ),
            )
            messages.append(_rule(BRIDGE_TABLE, chain, *first, _verdict(_NF_ACCEPT)))
        messages.append(_rule(BRIDGE_TABLE, chain, _verdict(_NF_DROP)))
    connection.commit(messages, what=f"making table {BRIDGE_TABLE}")


def make_alive(connection: Connection, *, owned: bool) -> None:
    """Make table inet vmwarden_alive, without a lease, in place of a leftover that nobody owns.

    Raises NetlinkRefused; EPERM where another living process holds one.
    """
    old = [_delete(ALIVE_TABLE)] if standing(connection, ALIVE_TABLE) else []
    connection.commit([*old, *_alive(owned=owned)], what=f"making table {ALIVE_TABLE}")


def alive_form() -> str:
    """Names what make_alive makes: another version's may be something else."""
    return _hashed([bytes([message.kind]) + message.attributes for message in _alive(owned=True)])


def _alive(*, owned: bool) -> list[Message]:
    messages: list[Message] = []
    messages.append(_new_table(ALIVE_TABLE, _TABLE_F_OWNER if owned else 0))
    for number, name in enumerate(_LEASES, start=1):
        messages.append(_new_set(name, number))
    for suffix, hook in HOOKS.items():
        chain = f"permit_{suffix}"
        messages.append(_new_chain(ALIVE_TABLE, chain, hook, PERMIT_PRIORITY))
        messages.append(_permit_rule(chain, LEASE_SET, OPEN_BIT))
        if suffix != "forward":  # scopes are flows of this VM, not of what it forwards for
            messages.append(_permit_rule(chain, GUARDED_SET, GUARDED_BIT))
        messages.append(_permit_rule(chain, DRAIN_SET, DRAIN_BITS))
        if suffix != "forward":
            messages.append(_permit_rule(chain, SERVICES_SET, SERVICES_BIT))
    return messages


def renew(connection: Connection, milliseconds: int, *, guarded: bool) -> None:
    """One lease from now on, and no other.  Raises NetlinkRefused, ControlFailed.  See renewal.

    Flush and add, because the kernel keeps the old end when an element is added again (always on 6.1,
    with an equal timeout on 6.18), and delete fails when the element has just lapsed.
    """
    connection.commit(renewal(milliseconds, guarded=guarded), what="renewing the lease")


def renewal(milliseconds: int, *, guarded: bool, drained: int = 0, services: int = 0) -> list[Message]:
    """What renew says; others may be renewed in the same transaction.

    drained: for so long from now on open flows live and new ones are refused, where the lease does not run.
    services: for so long services with hours of their own may pass, where nothing else does.
    """
    name = GUARDED_SET if guarded else LEASE_SET
    added = [timed(ALIVE_TABLE, name, FAMILIES, milliseconds)] if milliseconds else []
    if drained:
        added.append(timed(ALIVE_TABLE, DRAIN_SET, FAMILIES, drained))
    if services:
        added.append(timed(ALIVE_TABLE, SERVICES_SET, FAMILIES, services))
    return [*ending(), *added]


def timed(
    table: str, name: str, keys: Iterable[bytes], milliseconds: int, *, family: int = nl.NFPROTO_INET
) -> Message:
    """Add elements to a set, each for so long from now on."""
    elements = b"".join(_element(key, milliseconds) for key in keys)
    asked = _elements(table, name) + nl.nested(_ELEMENTS, elements)
    return Message(_NEWSETELEM, asked, flags=nl.NLM_F_CREATE, family=family)


def keyed(
    table: str, name: str, ends: Iterable[tuple[bytes, int]], *, family: int = nl.NFPROTO_INET
) -> list[Message]:
    """Replace what is in a set: (key, milliseconds from now).  By the hundred: an attribute has 64 kB."""
    left, messages = list(ends), [emptied(table, name, family=family)]
    while left:
        some, left = left[:_ELEMENTS_A_MESSAGE], left[_ELEMENTS_A_MESSAGE:]
        elements = b"".join(_element(key, milliseconds) for key, milliseconds in some)
        asked = _elements(table, name) + nl.nested(_ELEMENTS, elements)
        messages.append(Message(_NEWSETELEM, asked, flags=nl.NLM_F_CREATE, family=family))
    return messages


def _element(key: bytes, milliseconds: int) -> bytes:
    return nl.nested(
        _LIST_ELEMENT,
        nl.nested(_ELEMENT_KEY, nl.attribute(_DATA_VALUE, key)),
        nl.u64(_ELEMENT_TIMEOUT, milliseconds),
    )


def emptied(table: str, name: str, *, family: int = nl.NFPROTO_INET) -> Message:
    """Take every element out of a set."""
    return Message(_DELSETELEM, _elements(table, name), family=family)


def ending() -> list[Message]:
    """What flush says."""
    return [emptied(ALIVE_TABLE, name) for name in _LEASES]


def flush(connection: Connection) -> None:
    """No lease.  Raises NetlinkRefused, ControlFailed."""
    connection.commit(ending(), what="ending the lease")


def standing(connection: Connection, table: str, *, family: int = nl.NFPROTO_INET) -> bool:
    """Whether the table exists.  Raises NetlinkRefused, ControlFailed."""
    return _table(connection, table, family) is not None


def owned_by_us(connection: Connection, table: str) -> bool:
    """Whether the table goes when this connection goes.  Raises NetlinkRefused, ControlFailed."""
    found = _table(connection, table, nl.NFPROTO_INET) or {}
    return found.get(_TABLE_OWNER) == struct.pack(">I", connection.port)


def delete(connection: Connection, *tables: str, family: int = nl.NFPROTO_INET) -> None:
    """Delete those of the tables that exist, in one transaction.  Raises NetlinkRefused, ControlFailed."""
    for again in range(_DELETE_TRIES, -1, -1):
        messages = [_delete(table, family) for table in tables if standing(connection, table, family=family)]
        try:
            if messages:
                connection.commit(messages, what=f"deleting {' and '.join(tables)}")
        except NetlinkRefused as refused:
            if refused.number != errno.ENOENT or not again:
                raise
        else:
            return


def digest(connection: Connection, table: str, *, family: int = nl.NFPROTO_INET) -> str:
    """SHA-256 in hex over all that stands in a table: flags, chains, hooks, policies, rules, set names.

    Left out is what changes by itself: counters, handles, what is in the sets.
    Raises NetlinkRefused, ControlFailed.
    """
    each = digests(connection, table, family=family)
    return _hashed([part for name in sorted(each) for part in (name.encode(), each[name].encode())])


def digests(connection: Connection, table: str, *, family: int = nl.NFPROTO_INET) -> dict[str, str]:
    """As digest, for each chain by its name, and under "" for the table with its sets."""
    found = _table(connection, table, family) or {}
    sets = _objects(connection, _GETSET, table, _SET_TABLE, family)
    names = sorted(each.get(_SET_NAME, b"-") for each in sets)
    whole = {"": _hashed([table.encode(), found.get(_TABLE_FLAGS, b"absent"), *names])}
    parts: dict[bytes, list[bytes]] = {}
    for chain in _objects(connection, _GETCHAIN, table, _CHAIN_TABLE, family):
        kept = (_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE)
        parts[chain.get(_CHAIN_NAME, b"")] = [chain.get(field, b"-") for field in kept]
    # rules come chain by chain, in their order
    for rule in _objects(connection, _GETRULE, table, _RULE_TABLE, family):
        told = parts.setdefault(rule.get(_RULE_CHAIN, b""), [])
        told.append(rule.get(_RULE_USERDATA, b"-"))
        for name, data in _expressions(rule):
            told += [name, b"-" if name == b"counter\0" else data]
    return whole | {nl.name(name): _hashed(told) for name, told in parts.items()}


def _hashed(parts: Iterable[bytes]) -> str:
    whole = sha256()
    for part in parts:
        whole.update(struct.pack(">I", len(part)) + part)
    return whole.hexdigest()


def generation(connection: Connection) -> int:
    """The number of the namespace's rules as they are now.

    Every transaction that changes anything, by whomever, adds one (nf_tables_commit); a lapsing element
    does not.  Raises NetlinkRefused, ControlFailed.
    """
    found = dict(nl.attributes(connection.get(_GETGEN, what="reading the generation of the rules")))
    return int.from_bytes(found.get(_GENERATION_ID, b""), "big")


def following(number: int) -> int:
    """The generation after one transaction more: 32 bits, and never 0."""
    return number % 0xFFFF_FFFF + 1


def dropped(connection: Connection, table: str, *, family: int = nl.NFPROTO_INET) -> dict[str, int]:
    """Packets that each chain's counter has counted since the rules were loaded.

    Raises NetlinkRefused, ControlFailed.
    """
    counted: dict[str, int] = {}
    for rule in _objects(connection, _GETRULE, table, _RULE_TABLE, family):
        for name, data in _expressions(rule):
            if name == b"counter\0":
                packets = dict(nl.attributes(data)).get(_COUNTER_PACKETS, b"")
                chain = nl.name(rule.get(_RULE_CHAIN, b""))
                counted[chain] = counted.get(chain, 0) + int.from_bytes(packets, "big")
    return counted


@dataclass(frozen=True, slots=True)
class Running:
    """What the kernel says of the lease: milliseconds left (0 = none), and of which kind."""

    milliseconds: int
    guarded: bool


def running(connection: Connection) -> Running:
    """The lease as it runs now.  Raises NetlinkRefused, ControlFailed."""
    for name, guarded in ((LEASE_SET, False), (GUARDED_SET, True), (DRAIN_SET, False)):
        milliseconds = left(connection, ALIVE_TABLE, name)
        if milliseconds:
            return Running(milliseconds, guarded)
    return Running(0, False)


def left(connection: Connection, table: str, name: str, *, family: int = nl.NFPROTO_INET) -> int:
    """Milliseconds until the last element of a set lapses; 0 = it is empty, or not there.

    Raises NetlinkRefused, ControlFailed.
    """
    ends = [0]
    asked = _elements(table, name)
    try:
        dumped = connection.dump(_GETSETELEM, asked, what=f"reading {name}", family=family)
    except NetlinkRefused as refused:
        if refused.number != errno.ENOENT:
            raise
        dumped = ()
    for found in dumped:
        for _, element in nl.attributes(dict(nl.attributes(found)).get(_ELEMENTS, b"")):
            end = dict(nl.attributes(element)).get(_ELEMENT_EXPIRATION, b"")
            ends.append(int.from_bytes(end, "big"))
    return max(ends)


def base_chains(connection: Connection, table: str, *, family: int) -> dict[str, str]:
    """The chains that hang on a hook, and the device of each ("" = none, or it is gone).

    Raises NetlinkRefused, ControlFailed.
    """
    found: dict[str, str] = {}
    for chain in _objects(connection, _GETCHAIN, table, _CHAIN_TABLE, family):
        if _CHAIN_HOOK in chain:
            hook = dict(nl.attributes(chain[_CHAIN_HOOK]))
            found[nl.name(chain.get(_CHAIN_NAME, b""))] = nl.name(hook.get(_HOOK_DEVICE, b""))
    return found


def _table(connection: Connection, name: str, family: int) -> dict[int, bytes] | None:
    for table in _objects(connection, _GETTABLE, name, _TABLE_NAME, family):
        return table
    return None


def _objects(
    connection: Connection, kind: int, table: str, named_by: int, family: int
) -> list[dict[int, bytes]]:
    """Attributes of each object in the table.  The kernel narrows some dumps and not others: so do we."""
    asked = nl.text(_RULE_TABLE, table) if kind == _GETRULE else b""
    name = table.encode() + b"\0"
    dumped = connection.dump(kind, asked, what=f"reading table {table}", family=family)
    found = [dict(nl.attributes(attributes)) for attributes in dumped]
    return [attributes for attributes in found if attributes.get(named_by) == name]


def _expressions(rule: dict[int, bytes]) -> Iterator[tuple[bytes, bytes]]:
    for _, expression in nl.attributes(rule.get(_RULE_EXPRESSIONS, b"")):
        fields = dict(nl.attributes(expression))
        yield fields.get(_EXPRESSION_NAME, b""), fields.get(_EXPRESSION_DATA, b"")


def _new_table(name: str, flags: int) -> Message:
    return Message(_NEWTABLE, nl.text(_TABLE_NAME, name) + nl.u32(_TABLE_FLAGS, flags), flags=nl.NLM_F_CREATE)


def _delete(table: str, family: int = nl.NFPROTO_INET) -> Message:
    return Message(_DELTABLE, nl.text(_TABLE_NAME, table), family=family)


def delete_chain(table: str, name: str, *, family: int) -> Message:
    """A chain and its rules."""
    return Message(_DELCHAIN, nl.text(_CHAIN_TABLE, table) + nl.text(_CHAIN_NAME, name), family=family)


def new_device_chain(table: str, name: str, *, hook: int, priority: int, device: str) -> Message:
    """A base chain of a netdev table on one device, policy drop.  hook: DEVICE_INGRESS or DEVICE_EGRESS."""
    return Message(
        _NEWCHAIN,
        nl.text(_CHAIN_TABLE, table)
        + nl.text(_CHAIN_NAME, name)
        + nl.nested(
            _CHAIN_HOOK,
            nl.u32(_HOOK_NUMBER, hook),
            nl.u32(_HOOK_PRIORITY, priority),
            nl.text(_HOOK_DEVICE, device),
        )
        + nl.u32(_CHAIN_POLICY, _NF_DROP)
        + nl.text(_CHAIN_TYPE, "filter"),
        flags=nl.NLM_F_CREATE,
        family=nl.NFPROTO_NETDEV,
    )


def leased_else(table: str, chain: str, *, lease: str, judge: str) -> list[Message]:
    """meta protocol @lease accept; goto judge"""
    accept = nl.nested(_DATA_VERDICT, nl.u32(_VERDICT_CODE, _NF_ACCEPT))
    goto = nl.nested(_DATA_VERDICT, nl.u32(_VERDICT_CODE, _NFT_GOTO), nl.text(_VERDICT_CHAIN, judge))
    look_up = (
        _expression("meta", nl.u32(2, _META_PROTOCOL), nl.u32(1, _REGISTER_1)),
        _expression("lookup", nl.text(1, lease), nl.u32(2, _REGISTER_1)),
    )
    return [
        Message(
            _NEWRULE,
            nl.text(_RULE_TABLE, table)
            + nl.text(_RULE_CHAIN, chain)
            + nl.nested(
                _RULE_EXPRESSIONS,
                *before,
                _expression("immediate", nl.u32(1, _REGISTER_VERDICT), nl.nested(2, verdict)),
            ),
            flags=nl.NLM_F_CREATE | nl.NLM_F_APPEND,
            family=nl.NFPROTO_NETDEV,
        )
        for before, verdict in ((look_up, accept), ((), goto))
    ]


def _new_set(name: str, number: int) -> Message:
    return Message(
        _NEWSET,
        nl.text(_SET_TABLE, ALIVE_TABLE)
        + nl.text(_SET_NAME, name)
        + nl.u32(_SET_FLAGS, _SET_F_TIMEOUT)
        + nl.u32(_SET_KEY_TYPE, _KEY_TYPE_NF_PROTO)
        + nl.u32(_SET_KEY_LENGTH, 1)
        + nl.u32(_SET_ID, number),
        flags=nl.NLM_F_CREATE,
    )


def _new_chain(table: str, name: str, hook: str, priority: int) -> Message:
    policy = _NF_DROP if priority == JUDGE_PRIORITY else _NF_ACCEPT
    return Message(
        _NEWCHAIN,
        nl.text(_CHAIN_TABLE, table)
        + nl.text(_CHAIN_NAME, name)
        + nl.nested(_CHAIN_HOOK, nl.u32(_HOOK_NUMBER, _HOOK_NUMBERS[hook]), nl.u32(_HOOK_PRIORITY, priority))
        + nl.u32(_CHAIN_POLICY, policy)
        + nl.text(_CHAIN_TYPE, "filter"),
        flags=nl.NLM_F_CREATE,
    )


def _permit_rule(chain: str, lease: str, bit: int) -> Message:
    """meta nfproto @lease meta mark set meta mark | bit accept"""
    # bitwise: (mark & ~bit) ^ bit; the register holds the mark in the machine's own byte order
    mask, bits = struct.pack("=I", 0xFFFF_FFFF ^ bit), struct.pack("=I", bit)
    expressions = (
        _expression("meta", nl.u32(2, _META_NFPROTO), nl.u32(1, _REGISTER_1)),
        _expression("lookup", nl.text(1, lease), nl.u32(2, _REGISTER_1)),
        _expression("meta", nl.u32(2, _META_MARK), nl.u32(1, _REGISTER_1)),
        _expression(
            "bitwise",
            nl.u32(1, _REGISTER_1),
            nl.u32(2, _REGISTER_1),
            nl.u32(3, 4),
            nl.nested(4, nl.attribute(_DATA_VALUE, mask)),
            nl.nested(5, nl.attribute(_DATA_VALUE, bits)),
        ),
        _expression("meta", nl.u32(2, _META_MARK), nl.u32(3, _REGISTER_1)),
        _verdict(_NF_ACCEPT),
    )
    return _rule(ALIVE_TABLE, chain, *expressions)


def _rule(table: str, chain: str, *expressions: bytes) -> Message:
    return Message(
        _NEWRULE,
        nl.text(_RULE_TABLE, table)
        + nl.text(_RULE_CHAIN, chain)
        + nl.nested(_RULE_EXPRESSIONS, *expressions),
        flags=nl.NLM_F_CREATE | nl.NLM_F_APPEND,
    )


def _verdict(code: int) -> bytes:
    return _expression(
        "immediate",
        nl.u32(1, _REGISTER_VERDICT),
        nl.nested(2, nl.nested(_DATA_VERDICT, nl.u32(_VERDICT_CODE, code))),
    )


def _expression(name: str, *data: bytes) -> bytes:
    return nl.nested(_LIST_ELEMENT, nl.text(_EXPRESSION_NAME, name), nl.nested(_EXPRESSION_DATA, *data))


def _elements(table: str, name: str) -> bytes:
    return nl.text(_ELEMENTS_TABLE, table) + nl.text(_ELEMENTS_SET, name)
