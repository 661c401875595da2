# SPDX-License-Identifier: Apache-2.0
import re

import msgspec
import pytest

from tests.integration.gate_policy import gate_policy, uids
from vmwarden.errors import Malformed
from vmwarden.model.flow import Flow, TcpTable
from vmwarden.model.hours import Interval
from vmwarden.model.policy import FlowIn, FlowOut, Hours, Policy, TimedService
from vmwarden.rules import direction, netdev_ruleset, ruleset
from vmwarden.rules.flat import flat
from vmwarden.rules.timed_services import DRAIN_SET, SET, number_key, services

USERS = uids(["prober"])
ALWAYS = (Interval(),)


def served(name: str, *flows: FlowIn) -> TimedService:
    return TimedService(name=name, in_=flows, open=ALWAYS)


def policy(*timed: TimedService, drain: str = "0s") -> Policy:
    return msgspec.structs.replace(gate_policy(), hours=Hours(open=ALWAYS, drain=drain, services=timed))


def test_of_two_ranges_the_narrower_counts_and_ranges_never_overlap() -> None:
    found = services(
        policy(
            served("wide", FlowIn(from_="10.0.0.0/8", tcp=80)),
            served("narrow", FlowIn(from_="10.1.0.0/16", tcp=80), FlowIn(from_="10.255.0.0/16", tcp=80)),
            served("one", FlowIn(from_="10.1.0.0/32", tcp=80)),
        )
    )
    assert [(claim.others, claim.number) for claim in found.served] == [
        ("10.0.0.0-10.0.255.255", 1),
        ("10.1.0.0", 3),
        ("10.1.0.1-10.1.255.255", 2),
        ("10.2.0.0-10.254.255.255", 1),
        ("10.255.0.0-10.255.255.255", 2),
    ]


def test_what_two_services_claim_passes_while_both_may() -> None:
    flow = FlowIn(from_="10.0.0.0/8", udp=53)
    found = services(policy(served("one", flow), served("two", flow, FlowIn(from_="::/0", tcp=80))))
    assert found.numbers == (frozenset({"one"}), frozenset({"two"}), frozenset({"one", "two"}))
    one, two, both = (number_key(number) for number in (1, 2, 3))
    assert found.elements({"one": 5000}) == {SET: [(one, 5000)]}
    assert found.elements({"one": 5000, "two": 300}) == {SET: [(one, 5000), (two, 300), (both, 300)]}
    assert found.elements({}) == {SET: []}


def test_in_a_drain_new_flows_end_before_open_ones() -> None:
    found = services(policy(served("one", FlowIn(from_="10.0.0.0/8", tcp=80)), drain="30s"))
    key = number_key(1)
    assert found.elements({"one": 5000}, {"one": 1000}) == {SET: [(key, 1000)], DRAIN_SET: [(key, 5000)]}
    assert found.elements({"one": 5000}, {"one": 9000}) == {SET: [(key, 5000)], DRAIN_SET: [(key, 5000)]}
    assert found.elements({"one": 5000}, {}) == {SET: [], DRAIN_SET: [(key, 5000)]}
    assert found.elements({}, {"one": 1000}) == {SET: [], DRAIN_SET: []}, "none begins that may not pass"


@pytest.mark.parametrize("flow", [FlowIn(from_="10.0.0.0/8"), FlowIn(from_="10.0.0.0/8", tcp=1, udp=1)])
def test_a_flow_without_exactly_one_port_is_refused_by_its_service(flow: FlowIn) -> None:
    with pytest.raises(Malformed, match=r"hours\.services web: a flow has exactly one port"):
        ruleset.closed(policy(served("web", flow)), users=USERS)


def every_text(of: Policy) -> list[str]:
    return [ruleset.closed(of, users=USERS), netdev_ruleset.table(of, users=USERS)]


@pytest.mark.parametrize("drain", ["0s", "30s"])
def test_whatever_is_named_is_made_and_the_rules_for_one_packet_stay_as_many(drain: str) -> None:
    lengths = []
    for size in (1, 50):
        timed = (served(f"s{n}", FlowIn(from_="10.0.0.0/8", tcp=8000 + n)) for n in range(size))
        for text in every_text(policy(*timed, drain=drain)):
            chains = dict(re.findall(r"\tchain (\w+) \{\n(.*?)\t\}", text, re.DOTALL))
            named = set(re.findall(r"(?:jump|goto) (\w+)", text))
            assert named <= set(chains)
            assert set(re.findall(r"@(\w+) ", text)) - {"ll"} <= set(re.findall(r"\tset (\w+) ", text))
            lengths.append({name: body.count("\n") for name, body in chains.items() if "leased_" not in name})
            assert ruleset.TABLE in text
    assert lengths[:2] == lengths[2:]


def test_without_services_nothing_is_different() -> None:
    without = msgspec.structs.replace(gate_policy(), hours=Hours(open=ALWAYS))
    for with_hours, plain in zip(every_text(without), every_text(gate_policy()), strict=True):
        assert with_hours == plain


def test_the_rules_of_services_are_exchanged_as_all_others() -> None:
    text = ruleset.closed(policy(served("web", FlowIn(from_="10.0.0.0/8", tcp=80)), drain="30s"), users=USERS)
    assert ruleset.intact(text)
    assert f"add set inet vmwarden {SET} " in flat(text)


def test_an_older_flow_from_the_port_that_a_service_calls_is_told_by_who_listens() -> None:
    calls = TimedService(name="feed", out=(FlowOut(to="192.0.2.0/24", tcp=9443),), open=ALWAYS)
    remote, local = bytes((192, 0, 2, 1)), bytes((10, 99, 0, 1))
    table = TcpTable(
        listening=frozenset({5000}),
        established=(
            Flow("tcp", local, 5000, remote, 9443, 0),
            Flow("tcp", local, 40_000, remote, 9443, 0),
        ),
    )
    assert [len(keys) for keys in direction.begun_before(policy(calls), table).values()] == [1, 0]
    assert [len(keys) for keys in direction.begun_before(gate_policy(), table).values()] == [0, 0]
