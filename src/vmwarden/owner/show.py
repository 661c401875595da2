# SPDX-License-Identifier: Apache-2.0
"""What a policy means, in plain words, defaults included."""

from collections.abc import Iterable, Iterator, Sequence

from vmwarden.model.hours import Extra, Interval
from vmwarden.model.installed import PurgeOrder
from vmwarden.model.owners import Owners
from vmwarden.model.policy import (
    FlowIn,
    FlowOut,
    Host,
    HostClause,
    Hours,
    Openings,
    Place,
    PlaceEntry,
    Policy,
    Reach,
    Trust,
    UnknownRung,
    WrongRung,
)
from vmwarden.model.posture import Posture
from vmwarden.rules import duration, ladders, sshkey

_MODES = {
    "observe": "judges and records what it would have done; closes nothing",
    "enforce": "closes the VM as written below",
}
_POSTURES = {
    Posture.OPEN: "open",
    Posture.GUARDED: "guarded (only manage and the scopes)",
    Posture.HELD: "held (only manage; flows survive)",
    Posture.QUARANTINED: "quarantined (only manage; flows are ended)",
    Posture.POWEROFF: "poweroff",
}
_PROOFS = {
    "declared": "declared (unsigned claims count)",
    "signed": "signed by a trusted host",
    "fresh": "signed by a trusted host in answer to our own question",
}


def words(noun: Policy | Owners | PurgeOrder) -> str:
    """A page about a policy, a few lines about owners or an order.  Raises Malformed for broken keys."""
    if isinstance(noun, Policy):
        lines = _policy(noun)
    elif isinstance(noun, Owners):
        lines = _owners(noun)
    else:
        lines = _order(noun)
    return "\n".join(lines)


def _owners(owners: Owners) -> Iterator[str]:
    yield f"Owners, version {owners.version}"
    yield from (f"  {key.name}  {sshkey.parse(key.key).kind}  {_fingerprint(key.key)}" for key in owners.keys)
    yield f"  a policy needs {_count(owners.policy_threshold, 'signature')}"
    yield f"  a successor of the owners needs {_count(owners.owners_threshold, 'signature')}, old and new"


def _order(order: PurgeOrder) -> Iterator[str]:
    yield f"Order to forget the enrolment of {order.vm}, generation {order.generation}"
    yield f"  identity  {order.identity}"


def _policy(policy: Policy) -> Iterator[str]:
    yield f"Policy {policy.name}, version {policy.version}"
    yield f"  mode      {policy.mode}: {_MODES[policy.mode]}"
    yield f"  VMs       {', '.join(policy.vms)}"
    yield f"  install   from {policy.valid.from_} until {policy.valid.until}; in force it stays in force"
    yield f"  network   closes by itself {policy.gate.lease} after the last verdict that allowed it"
    yield ""
    yield "Stays open in every posture but poweroff"
    yield from _flows(policy.manage.in_, policy.manage.out, policy.reach)
    for scope in policy.scopes:
        yield ""
        yield f"Stays open in guarded too: scope {scope.name}"
        yield from _flows(scope.in_, scope.out, ())
    if policy.place is not None:
        yield ""
        yield from _place(policy.place)
    if policy.host is not None:
        yield ""
        yield from _host(policy.host)
    if policy.hours is not None:
        yield ""
        yield from _hours(policy.hours)
    if policy.place is None and policy.host is None and policy.hours is None:
        yield ""
        yield "No fence: nothing is judged"
    yield ""
    yield from _trust(policy.trust)


def _flows(ways_in: Iterable[FlowIn], ways_out: Iterable[FlowOut], reach: Iterable[Reach]) -> Iterator[str]:
    lines = [f"  in   {_port(flow)} from {flow.from_}" for flow in ways_in]
    lines += [f"  out  {_port(flow)} to {flow.to}" for flow in ways_out]
    lines += [f"  out  {_port(flow)} to {flow.to}, by the user {flow.as_} only" for flow in reach]
    yield from lines or ["  nothing: a closed VM can only be reached over its console"]


def _port(flow: FlowIn | FlowOut | Reach) -> str:
    return f"tcp {flow.tcp}" if flow.tcp is not None else f"udp {flow.udp}"


def _place(place: Place) -> Iterator[str]:
    yield "Place: any one of these"
    for entry in place.any_of:
        yield f"  - {_entry(entry)}"
    agreed = "" if place.agree == 1 else f", by {place.agree} different keys"
    yield f"  proof     {_PROOFS[place.proof]}{agreed}"
    if place.issued_within is not None:
        yield f"  stamped   a statement counts for {place.issued_within} after it was issued"
    yield from _rhythm(place)


def _entry(entry: PlaceEntry) -> str:
    lists = (
        ("subdivision", entry.subdivisions),
        ("city", entry.cities),
        ("postal code", entry.postal_codes),
        ("time zone", entry.time_zones),
        ("building", entry.buildings),
    )
    parts = [f"country {entry.country}"] if entry.country is not None else []
    parts += [f"{name} {' or '.join(values)}" for name, values in lists if values]
    return ", and ".join(parts)


def _host(host: Host) -> Iterator[str]:
    yield "Host: all of these"
    for clause in host.all_of:
        yield f"  - {_clause(clause)}; {_PROOFS[clause.proof]}"
    yield from _rhythm(host)


def _clause(clause: HostClause) -> str:
    if clause.equals is not None:
        return f"{clause.fact} is {clause.equals}"
    if clause.in_ is not None:
        return f"{clause.fact} is {' or '.join(clause.in_)}"
    if clause.contains is not None:
        labels = (clause.contains,) if isinstance(clause.contains, str) else clause.contains
        return f"{clause.fact} has {' and '.join(labels)}"
    return f"{clause.fact} is {clause.at_least} or later"


def _rhythm(fence: Place | Host) -> Iterator[str]:
    yield f"  recheck   evidence that we last verified {fence.recheck} ago counts no more"
    written = "" if fence.wrong else " (default)"
    yield f"  when wrong{written}"
    wrong = ladders.wrong_ladder(fence.wrong)
    if duration.milliseconds(wrong[0].after) > 0:
        yield f"    at once      {_POSTURES[Posture.HELD]}"
    yield from (_rung(rung) for rung in wrong)
    written = "" if fence.unknown else " (default)"
    yield f"  when nobody can tell, after it was right in this boot{written}; before that: held"
    yield from (_rung(rung) for rung in ladders.unknown_ladder(fence.unknown))


def _rung(rung: WrongRung | UnknownRung) -> str:
    when = "at once" if duration.milliseconds(rung.after) == 0 else f"after {rung.after}"
    ask = ""
    if isinstance(rung, WrongRung) and rung.ask is not None:
        ask = f"; asks the {rung.of or 'host'}: {rung.ask} (recorded, not sent yet)"
    return f"    {when:<12} {_POSTURES.get(rung.posture, rung.posture.value)}{ask}"


def _hours(hours: Hours) -> Iterator[str]:
    local = hours.time == "local"
    clock = "the VM's own clock" if local else "authenticated time alone"
    yield f"Hours, by {clock}: open"
    yield from _openings(hours, hours.open)
    yield from _not_on(hours.closed_on)
    for holidays in hours.holidays:
        whose = holidays.subdivision or holidays.country or holidays.file
        yield f"  not on    holidays of {whose}: {', '.join(map(_dated, holidays.dates))}"
    yield from _also_on(hours.extra)
    yield f"  outside   {_POSTURES[Posture(hours.outside)]}, at once; that is no incident"
    if duration.milliseconds(hours.drain):
        yield f"  drain     for the last {hours.drain} of a slot new connections are refused"
    if not local:
        yield f"  stamps    open a slot from its begin on, and count for {hours.recheck}"
    written = "" if hours.unknown else " (default)"
    yield f"  while the time is not known{written}"
    yield from (_rung(rung) for rung in hours.unknown or ladders.DEFAULT_TIME_UNKNOWN)
    for service in hours.services:
        yield ""
        yield f"Service {service.name}, apart from the rest of the VM: open"
        yield from _openings(hours, service.open)
        yield from _not_on(service.closed_on)
        if hours.holidays:
            yield f"  holidays  {'closed on them, too' if service.holidays else 'make no difference'}"
        yield from _also_on(service.extra)
        yield from _flows(service.in_, service.out, ())


def _openings(hours: Hours, openings: Openings) -> Iterator[str]:
    for entry in openings:
        if isinstance(entry, Interval):
            yield f"  - {_interval(entry, hours.time_zone)}"
            continue
        for named in hours.intervals:
            if named.name == entry:
                yield from (f"  - {_interval(one, hours.time_zone)} ({entry})" for one in named.any_of)


def _interval(interval: Interval, time_zone: str) -> str:
    if interval == Interval():
        return "at all times"
    parts = [f"{times.start_time} to {times.end_time}" for times in interval.times or ()]
    text = " and ".join(parts) if parts else "all day"
    lists = (
        ("on", interval.weekdays),
        ("on days", interval.days_of_month),
        ("in", interval.months),
        ("in", interval.years),
    )
    for word, values in lists:
        if values is not None:
            text += f", {word} {' or '.join(_dated(str(value)) for value in values)}"
    return f"{text}, {interval.location or time_zone}"


def _not_on(closed_on: Sequence[str]) -> Iterator[str]:
    if closed_on:
        yield f"  not on    {', '.join(map(_dated, closed_on))}"


def _also_on(extras: Iterable[Extra]) -> Iterator[str]:
    for extra in extras:
        times = [f"{times.start_time} to {times.end_time}" for times in extra.times or ()]
        dates = ", ".join(map(_dated, extra.dates))
        yield f"  also on   {dates}, {' and '.join(times) or 'all day'}"


def _dated(text: str) -> str:
    """A range as people write it."""
    return text.replace(":", " to ")


def _trust(trust: Trust) -> Iterator[str]:
    if trust.hosts:
        yield "Hosts whose statements count"
        yield from (f"  {host.name}  {_fingerprint(host.key)}" for host in trust.hosts)
    else:
        yield "No host's statements count"
    if trust.time is not None:
        yield "Servers whose time counts, where more than half agree"
        for server in trust.time.servers:
            by = "one of its own keys" if server.keys else "an authority of the policy"
            yield f"  {server.name}  {server.address}  known by {by}"
    if trust.facilities:
        yield f"Facilities: {_count(len(trust.facilities), 'row')}"
        for row in trust.facilities:
            given = (("region", row.region), ("zone", row.zone), ("building", row.building))
            implied = (
                ("country", row.country),
                ("postal code", row.postal_code),
                ("time zone", row.time_zone),
            )
            yield f"  {_named(given)} means {_named(implied)}"


def _named(pairs: Iterable[tuple[str, str | None]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs if value is not None)


def _fingerprint(line: str) -> str:
    return sshkey.parse(line).fingerprint


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
