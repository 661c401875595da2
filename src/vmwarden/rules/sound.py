# SPDX-License-Identifier: Apache-2.0
"""What a policy of the right form must still satisfy, so that it can mean something.

The owner's lint shows these at their lines; the VM refuses to install a policy that has any of them, for a
signature can also be made by hand.  What needs tables that change (time zones, countries, forms of postal
codes) is judged at the owner's desk only, in vmwarden.owner.geography: an old VM must not refuse a new zone.
"""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vmwarden.errors import Malformed
from vmwarden.model.evidence import Subject
from vmwarden.model.policy import (
    Facility,
    FlowIn,
    FlowOut,
    Holidays,
    Host,
    HostClause,
    Hours,
    Place,
    PlaceEntry,
    Policy,
    Reach,
    Trust,
    UnknownRung,
    WrongRung,
)
from vmwarden.model.posture import BUILT, Posture
from vmwarden.rules import duration, instant, postal, sshkey, time_servers
from vmwarden.rules.calendar import flaws

Path = tuple[str | int, ...]

#: broadest range that manage may name, by address family: one that is wider is the internet, not an office
BROADEST = {4: 8, 6: 32}
#: T of design.md, the gate, milliseconds
LEASE_MS = (1_000, 30_000)
#: a recheck below this would ask the host more often than the heartbeat can answer, milliseconds
LEAST_RECHECK_MS = 1_000

_ORDER = tuple(Posture)
#: postures that silence may lead to (design.md, postures: poweroff and erased never from unknown)
_FROM_UNKNOWN = (Posture.GUARDED, Posture.HELD, Posture.QUARANTINED)
#: what a predicate of the host fence may speak of; a statement as a whole has no value of its own
FACTS = tuple(sorted(subject.value for subject in Subject if subject is not Subject.STATEMENT))


class Unsound(NamedTuple):
    """One mistake.  path: keys as the policy writes them, and indices.

    rests_on: parts of the policy without which this could not be said (the lint of a policy that is
    broken there keeps silent about it).
    """

    path: Path
    message: str
    mend: str = ""
    rests_on: tuple[Path, ...] = ()


def dotted(path: Path) -> str:
    """place.any_of.0.country"""
    return ".".join(str(step) for step in path)


def policy(policy: Policy) -> tuple[Unsound, ...]:
    """Every mistake, in the order of the policy's fields; empty for a sound one."""
    return tuple(_policy(policy))


def _policy(policy: Policy) -> Iterator[Unsound]:
    yield from _control_characters((), msgspec.to_builtins(policy))
    yield from _valid(policy)
    for index, way_in in enumerate(policy.manage.in_):
        yield from _flow(("manage", "in", index), way_in, manage=True)
    for index, way_out in enumerate(policy.manage.out):
        yield from _flow(("manage", "out", index), way_out, manage=True)
    for index, reach in enumerate(policy.reach):
        yield from _reach(("reach", index), reach)
    yield from _twice("scopes", "name", tuple(scope.name for scope in policy.scopes))
    for number, scope in enumerate(policy.scopes):
        for index, way_in in enumerate(scope.in_):
            yield from _flow(("scopes", number, "in", index), way_in, manage=False)
        for index, way_out in enumerate(scope.out):
            yield from _flow(("scopes", number, "out", index), way_out, manage=False)
        if not scope.in_ and not scope.out:
            yield Unsound(("scopes", number), "names no flow", "list flows under in or out")
    least, most = LEASE_MS
    if not least <= duration.milliseconds(policy.gate.lease) <= most:
        yield Unsound(("gate", "lease"), f"{policy.gate.lease} is not within 1s to 30s", "5s is the default")
    if policy.place is not None:
        yield from _place(policy.place, policy.trust)
    if policy.host is not None:
        yield from _host(policy.host, policy.trust)
    if policy.hours is not None:
        yield from _hours(policy.hours, policy.trust)
    yield from _trust(policy.trust)


def _control_characters(path: Path, part: object) -> Iterator[Unsound]:
    """None may reach a terminal, a ruleset or a log; and a pattern ending in $ lets one line feed pass."""
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _control_characters((*path, name), value)
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from _control_characters((*path, index), value)
    elif isinstance(part, str) and not part.isprintable():
        yield Unsound(path, f"{part!r} holds a character that cannot be printed", "leave it out")


def _valid(policy: Policy) -> Iterator[Unsound]:
    instants: list[int] = []
    for field, text in (("from", policy.valid.from_), ("until", policy.valid.until)):
        try:
            instants.append(instant.milliseconds(text))
        except Malformed as error:
            yield Unsound(("valid", field), str(error), error.problems[0].mend)
    if len(instants) == 2 and instants[1] <= instants[0]:
        yield Unsound(("valid", "until"), "ends before it begins", "until has to be later than from")


def _flow(path: Path, flow: FlowIn | FlowOut, *, manage: bool) -> Iterator[Unsound]:
    yield from _one_port(path, tcp=flow.tcp, udp=flow.udp)
    if manage and flow.udp is not None:
        yield Unsound((*path, "udp"), "manage is TCP only", "name the TCP port, or put the flow into a scope")
    end, text = ("from", flow.from_) if isinstance(flow, FlowIn) else ("to", flow.to)
    yield from _cidr((*path, end), text, broadest=BROADEST if manage else None)


def _reach(path: Path, reach: Reach) -> Iterator[Unsound]:
    yield from _one_port(path, tcp=reach.tcp, udp=reach.udp)
    yield from _cidr((*path, "to"), reach.to, broadest={4: 32, 6: 128})


def _one_port(path: Path, *, tcp: int | None, udp: int | None) -> Iterator[Unsound]:
    if tcp is None and udp is None:
        yield Unsound(path, "names no port", "add tcp: PORT or udp: PORT")
    if tcp is not None and udp is not None:
        yield Unsound(path, "names tcp and udp", "write two entries, one for each")


def _cidr(path: Path, text: str, *, broadest: dict[int, int] | None) -> Iterator[Unsound]:
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        yield Unsound(path, f"{text!r} is no address range: {error}", "write like 10.20.0.0/16 or fd00::/48")
        return
    if str(loose.network_address) != str(ipaddress.ip_address(text.split("/", 1)[0])):
        yield Unsound(path, f"{text!r} has bits set beyond its prefix", f"write {loose}")
    if broadest is None or loose.prefixlen >= broadest[loose.version]:
        return
    if broadest[loose.version] == loose.max_prefixlen:
        literal = f"{loose.network_address}/{loose.max_prefixlen}"
        yield Unsound(path, f"{text!r} is more than one address", f"name one address, like {literal}")
    else:
        yield Unsound(
            path,
            f"{text!r} is too broad for what stays open while the VM is closed",
            f"name at most a /{broadest[loose.version]}",
        )


def _place(place: Place, trust: Trust) -> Iterator[Unsound]:
    for index, entry in enumerate(place.any_of):
        yield from _entry(("place", "any_of", index), entry)
    yield from _provable(("place", "proof"), place.proof, trust)
    keys = len({host.key.split(" ")[1] for host in trust.hosts})
    if keys and place.agree > keys:
        yield Unsound(
            ("place", "agree"),
            f"{place.agree} different keys wanted, trust.hosts has {keys}: this VM can never satisfy it",
            "lower agree, or trust more hosts",
            (("trust", "hosts"),),
        )
    if place.proof == "declared" and place.agree > 1:
        yield Unsound(
            ("place", "agree"),
            "declared claims have no key, so no two keys can agree on them",
            "raise proof to signed, or leave agree at 1",
        )
    yield from _recheck("place", place.recheck)
    if place.issued_within is not None and duration.milliseconds(place.issued_within) == 0:
        yield Unsound(("place", "issued_within"), "nothing is ever 0 old", "write like 24h, or leave it out")
    yield from _ladders("place", place.wrong, place.unknown)


def _entry(path: Path, entry: PlaceEntry) -> Iterator[Unsound]:
    if entry == PlaceEntry():
        yield Unsound(path, "an empty entry would accept every place", "name a country, zone or postal code")
    for index, code in enumerate(entry.postal_codes):
        wrong = postal.check_pattern("", code)
        if wrong is not None:
            yield Unsound((*path, "postal_codes", index), f"{code!r}: {wrong}", 'write like "10*" or "10115"')


def _provable(path: Path, proof: str, trust: Trust) -> Iterator[Unsound]:
    if proof != "declared" and not trust.hosts:
        yield Unsound(
            path,
            f"{proof} evidence is wanted and trust.hosts is empty: this VM can never satisfy it",
            "add the key of a host to trust.hosts, or write proof: declared",
            (("trust", "hosts"),),
        )


def _recheck(fence: str, text: str) -> Iterator[Unsound]:
    if duration.milliseconds(text) < LEAST_RECHECK_MS:
        yield Unsound((fence, "recheck"), f"{text} is below 1s", "60s is the default")


def _ladders(
    fence: str, wrong: tuple[WrongRung, ...] | None, unknown: tuple[UnknownRung, ...] | None
) -> Iterator[Unsound]:
    for name, ladder in (("wrong", wrong), ("unknown", unknown)):
        if ladder is not None:
            yield from _ladder((fence, name), ladder)
    for index, rung in enumerate(wrong or ()):
        if (rung.ask is None) != (rung.of is None):
            given, lacking = ("ask", "of") if rung.of is None else ("of", "ask")
            yield Unsound((fence, "wrong", index, given), f"{given} without {lacking}", f"add {lacking}")
    for index, step in enumerate(unknown or ()):
        if step.posture in BUILT and step.posture not in (*_FROM_UNKNOWN, Posture.OPEN):
            yield Unsound(
                (fence, "unknown", index, "posture"),
                f"{step.posture.value} never follows from silence",
                f"use {' or '.join(p.value for p in _FROM_UNKNOWN)}",
            )


def _ladder(path: Path, ladder: tuple[WrongRung | UnknownRung, ...]) -> Iterator[Unsound]:
    if not ladder:
        yield Unsound(path, "an empty ladder", "leave it out: the default is printed by policy show")
    for index, rung in enumerate(ladder):
        where = (*path, index, "posture")
        if rung.posture not in BUILT:
            use = "quarantined" if path[-1] == "unknown" else "quarantined or poweroff"
            yield Unsound(
                where, f"this version cannot take the posture {rung.posture.value} yet", f"use {use}"
            )
        elif rung.posture is Posture.OPEN:
            yield Unsound(where, "a rung cannot open the VM", "begin the ladder later, or use guarded")
        if index == 0:
            continue
        before = ladder[index - 1]
        if duration.milliseconds(rung.after) <= duration.milliseconds(before.after):
            yield Unsound(
                (*path, index, "after"),
                f"{rung.after} does not come after {before.after}",
                "let after grow from rung to rung",
            )
        if _ORDER.index(rung.posture) < _ORDER.index(before.posture):
            yield Unsound(
                where,
                f"{rung.posture.value} is milder than {before.posture.value} before it",
                "a ladder only gets stricter",
            )


def _host(host: Host, trust: Trust) -> Iterator[Unsound]:
    for index, clause in enumerate(host.all_of):
        path: Path = ("host", "all_of", index)
        yield from _clause(path, clause)
        yield from _provable((*path, "proof"), clause.proof, trust)
    yield from _recheck("host", host.recheck)
    yield from _ladders("host", host.wrong, host.unknown)


def _clause(path: Path, clause: HostClause) -> Iterator[Unsound]:
    predicates = {
        "equals": clause.equals,
        "in": clause.in_,
        "contains": clause.contains,
        "at_least": clause.at_least,
    }
    given = [name for name, value in predicates.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield Unsound(path, f"has {found} of equals, in, contains, at_least", "write exactly one")
    if clause.fact not in FACTS:
        yield Unsound((*path, "fact"), f"{clause.fact!r} is no fact", f"use one of {', '.join(FACTS)}")
        return
    labels = clause.fact == Subject.COMPLIANCE.value
    if labels and any(name != "contains" for name in given):
        yield Unsound((*path, given[0]), f"{clause.fact} is a list of labels", "use contains")
    if not labels and clause.contains is not None:
        yield Unsound((*path, "contains"), f"{clause.fact} is one value, not a list", "use equals or in")
    if clause.contains == ():
        yield Unsound((*path, "contains"), "names no label", "name at least one")


def _hours(hours: Hours, trust: Trust) -> Iterator[Unsound]:
    for flaw in flaws.hours(hours):
        rests_on = tuple(("hours", *part) for part in flaw.rests_on)
        yield Unsound(("hours", *flaw.path), flaw.message, flaw.mend, rests_on)
    yield from _twice("hours.intervals", "name", tuple(named.name for named in hours.intervals))
    for index, holidays in enumerate(hours.holidays):
        yield from _holidays(("hours", "holidays", index), holidays)
    yield from _twice("hours.services", "name", tuple(service.name for service in hours.services))
    for number, service in enumerate(hours.services):
        path: Path = ("hours", "services", number)
        for index, way_in in enumerate(service.in_):
            yield from _flow((*path, "in", index), way_in, manage=False)
        for index, way_out in enumerate(service.out):
            yield from _flow((*path, "out", index), way_out, manage=False)
        if not service.in_ and not service.out:
            yield Unsound(path, "names no flow", "list flows under in or out")
    yield from _claimed_twice(hours)
    if hours.time == "trusted" and not trust.hosts and trust.time is None:
        yield Unsound(
            ("hours", "time"),
            "trusted time is wanted and nobody is trusted with it: this VM never opens",
            "list servers under trust.time, or hosts under trust.hosts, or write time: local",
            (("trust", "hosts"), ("trust", "time")),
        )
    yield from _recheck("hours", hours.recheck)
    yield from _ladders("hours", None, hours.unknown)


def _holidays(path: Path, holidays: Holidays) -> Iterator[Unsound]:
    if (holidays.country is None) == (holidays.file is None):
        found = "has neither" if holidays.country is None else "has both"
        yield Unsound(path, f"{found} of country and file", "write exactly one")
    elif not holidays.dates:
        yield Unsound(path, "no dates: they are worked out when the policy is signed", "sign with vmwarden")
    if holidays.subdivision is not None and not holidays.subdivision.startswith(f"{holidays.country}-"):
        yield Unsound(
            (*path, "subdivision"),
            f"{holidays.subdivision} is no part of {holidays.country or 'a file'}",
            "write it with its country, or leave it out",
        )


class _Claim(NamedTuple):
    """Addresses that a service claims for itself: from the first to the last, as numbers."""

    first: int
    last: int
    service: int
    path: Path


def _claimed_twice(hours: Hours) -> Iterator[Unsound]:
    """Flows that two services name: whose hours would count?"""
    claims: dict[tuple[str, int, int | None, int | None], list[_Claim]] = {}
    for number, service in enumerate(hours.services):
        flows: list[tuple[str, int, FlowIn | FlowOut, str]] = []
        flows += [("in", index, flow, flow.from_) for index, flow in enumerate(service.in_)]
        flows += [("out", index, flow, flow.to) for index, flow in enumerate(service.out)]
        for way, index, flow, text in flows:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                continue  # _cidr says so
            first, last = int(network.network_address), int(network.broadcast_address)
            claim = _Claim(first, last, number, ("hours", "services", number, way, index))
            claims.setdefault((way, network.version, flow.tcp, flow.udp), []).append(claim)
    for alike in claims.values():
        # ranges with a prefix lie within one another or apart: the one that began last and reaches furthest
        # is the only one that can hold the next
        reaching: _Claim | None = None
        for claim in sorted(alike, key=lambda one: (one.first, -one.last, one.path)):
            if reaching is not None and claim.first <= reaching.last and claim.service != reaching.service:
                other = hours.services[reaching.service].name
                yield Unsound(claim.path, f"the service {other} has it, too", "one flow, one service")
            if reaching is None or claim.last > reaching.last:
                reaching = claim


def _trust(trust: Trust) -> Iterator[Unsound]:
    yield from _twice("trust.hosts", "name", tuple(host.name for host in trust.hosts))
    if trust.time is not None:
        for flaw in time_servers.flaws(trust.time):
            yield Unsound(("trust", "time", *flaw.path), flaw.message, flaw.mend)
    seen: dict[bytes, str] = {}
    for index, host in enumerate(trust.hosts):
        path: Path = ("trust", "hosts", index, "key")
        try:
            key = sshkey.parse(host.key)
        except Malformed as error:
            yield Unsound(path, str(error), error.problems[0].mend)
            continue
        if key.kind != sshkey.ED25519:
            yield Unsound(
                path, "statements of hosts are signed with Ed25519", "give a key of type ssh-ed25519"
            )
        if key.blob in seen:
            yield Unsound(path, f"is the key of {seen[key.blob]} too", "one host, one key")
        seen.setdefault(key.blob, host.name)
    rows: dict[tuple[str | None, ...], int] = {}
    for index, row in enumerate(trust.facilities):
        yield from _facility(("trust", "facilities", index), row)
        given = (row.region, row.zone, row.building)
        if given in rows:
            yield Unsound(
                ("trust", "facilities", index),
                f"says the same region, zone and building as row {rows[given] + 1}",
                "keep one of them",
                (("trust", "facilities"),),
            )
        rows.setdefault(given, index)


def _facility(path: Path, row: Facility) -> Iterator[Unsound]:
    if row.region is None and row.zone is None and row.building is None:
        yield Unsound(path, "names no region, zone or building", "say what the row is about")
    if row.country is None and row.postal_code is None and row.time_zone is None:
        yield Unsound(path, "implies nothing", "add country, postal_code or time_zone")
    if row.postal_code is not None and "*" in row.postal_code:
        yield Unsound((*path, "postal_code"), "a building has one code, not a pattern", "write the code")


def _twice(where: str, field: str, names: tuple[str, ...]) -> Iterator[Unsound]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Unsound((*where.split("."), index, field), f"{name!r} is there twice", "names are unique")
