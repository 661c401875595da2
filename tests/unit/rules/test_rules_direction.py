# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

from tests.unit.rules.test_rules_ruleset import bare
from vmwarden.model.flow import Flow, TcpTable
from vmwarden.model.policy import FlowIn, FlowOut, Manage, Policy, Reach, Scope
from vmwarden.rules.direction import begun_before, chains, refused

POLICY = bare(
    Manage(
        in_=(FlowIn(from_="10.0.0.0/24", tcp=22), FlowIn(from_="10.0.0.0/24", tcp=2222)),
        out=(FlowOut(to="10.0.0.0/25", tcp=443), FlowOut(to="10.0.0.128/25", tcp=443)),
    ),
    reach=(Reach(to="fd00::1/128", as_="prober", tcp=4460), Reach(to="10.9.0.1/32", as_="prober", udp=123)),
    scopes=(
        Scope(name="s", in_=(FlowIn(from_="192.0.2.0/24", tcp=80), FlowIn(from_="192.0.2.0/24", udp=53))),
    ),
)


def test_a_syn_of_ours_is_right_towards_what_we_call_and_wrong_from_what_we_serve() -> None:
    assert chains(POLICY)["begins"] == [
        "tcp flags & ack == ack goto answers",
        "ip daddr { 10.0.0.0/24 } tcp dport { 443 } goto rightly",
        "ip daddr { 10.0.0.0/24 } tcp sport { 22, 2222 } goto backward",
        "ip daddr { 192.0.2.0/24 } tcp sport { 80 } goto backward",
        "ip6 daddr { fd00::1/128 } tcp dport { 4460 } goto rightly",
    ]


def test_a_syn_with_ack_of_ours_is_the_other_way_round() -> None:
    assert chains(POLICY)["answers"] == [
        "ip daddr { 10.0.0.0/24 } tcp sport { 22, 2222 } goto rightly",
        "ip daddr { 10.0.0.0/24 } tcp dport { 443 } goto backward",
        "ip6 daddr { fd00::1/128 } tcp dport { 4460 } goto backward",
        "ip daddr { 192.0.2.0/24 } tcp sport { 80 } goto rightly",
    ]


def test_what_cannot_be_written_down_does_not_begin() -> None:
    *written, last = chains(POLICY)["backward"]
    assert all(rule.startswith("add @backward") and rule.endswith(" return") for rule in written)
    assert last == "counter drop"


def test_both_directions_of_a_flow_have_the_same_key() -> None:
    assert refused(inbound=True)[0] == "ip saddr . tcp sport . ip daddr . tcp dport @backward4 counter drop"
    assert refused(inbound=False)[0] == "ip daddr . tcp dport . ip saddr . tcp sport @backward4 counter drop"
    assert "{ ip daddr . tcp dport . ip saddr . tcp sport }" in chains(POLICY)["backward"][0]


def flow(local_port: int, remote: str, remote_port: int) -> Flow:
    there = ip_address(remote)
    here = ip_address("10.0.0.7" if there.version == 4 else "fd00::7")
    return Flow("tcp", here.packed, local_port, there.packed, remote_port, 0)


def keys(*flows: Flow, listening: tuple[int, ...] = (22, 9000), policy: Policy = POLICY) -> list[bytes]:
    found = begun_before(policy, TcpTable(flows, frozenset(listening)))
    return [*found["backward4"], *found["backward6"]]


def test_an_older_flow_is_told_by_who_listens() -> None:
    assert keys(flow(9000, "10.0.0.3", 443)) == [
        bytes((10, 0, 0, 3))
        + (443).to_bytes(2)
        + b"\0\0"
        + bytes((10, 0, 0, 7))
        + (9000).to_bytes(2)
        + b"\0\0"
    ]
    (six,) = keys(flow(9000, "fd00::1", 4460))
    assert len(six) == 40
    assert six.startswith(ip_address("fd00::1").packed + (4460).to_bytes(2) + b"\0\0")


def test_what_this_vm_began_itself_and_what_it_serves_is_left_alone() -> None:
    assert keys(flow(40_000, "10.0.0.3", 443)) == []  # nobody listens there
    assert keys(flow(22, "10.0.0.3", 443)) == []  # a session of the owner, from an odd port
    assert keys(flow(9000, "10.0.1.3", 443)) == []  # another network
    assert keys(flow(9000, "10.0.0.3", 444)) == []  # another port
    assert keys(flow(9000, "10.9.0.1", 123)) == []  # UDP only
    assert keys(flow(9000, "10.0.0.3", 443), policy=bare()) == []


def test_an_older_flow_to_a_scope_that_looks_like_manage_is_told_and_one_like_a_scope_is_not() -> None:
    wide = bare(
        Manage(out=(FlowOut(to="192.0.2.0/24", tcp=443),)),
        scopes=(
            Scope(
                name="s",
                in_=(FlowIn(from_="192.0.2.0/24", tcp=80),),
                out=(FlowOut(to="192.0.2.0/24", tcp=8080),),
            ),
        ),
    )
    listening = (80, 9000)
    assert len(keys(flow(80, "192.0.2.3", 443), listening=listening, policy=wide)) == 1
    assert keys(flow(80, "192.0.2.3", 8080), listening=listening, policy=wide) == []
    assert len(keys(flow(9000, "192.0.2.3", 8080), listening=listening, policy=wide)) == 1
