# SPDX-License-Identifier: Apache-2.0
"""Whatever a policy says, the closed rules keep their shape."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.rules.test_rules_ruleset import bare, chains
from vmwarden.errors import Malformed
from vmwarden.linux import nfnetlink
from vmwarden.model.policy import FlowIn, FlowOut, Manage, Reach, Scope
from vmwarden.rules.ruleset import closed

BASE = chains(closed(bare(), users={}))
ports = st.integers(1, 65535)
networks = st.one_of(
    st.ip_addresses(v=4).flatmap(lambda a: st.integers(0, 32).map(lambda n: f"{a}/{n}")),
    st.ip_addresses(v=6).flatmap(lambda a: st.integers(0, 128).map(lambda n: f"{a}/{n}")),
)
tcp_in = st.builds(FlowIn, from_=networks, tcp=ports)
tcp_out = st.builds(FlowOut, to=networks, tcp=ports)
scopes = st.builds(
    Scope,
    name=st.just("s"),
    in_=st.lists(st.builds(FlowIn, from_=networks, udp=ports), max_size=3).map(tuple),
    out=st.lists(tcp_out, max_size=3).map(tuple),
)
reaches = st.builds(Reach, to=networks, as_=st.just("prober"), udp=ports)


def _unnamed(rule: str) -> str:
    return rule.partition(" comment")[0]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(tcp_in, max_size=4),
    st.lists(tcp_out, max_size=4),
    st.lists(scopes, max_size=3),
    st.lists(reaches, max_size=3),
)
def test_a_policy_only_adds_rules_between_the_lease_and_the_drop(
    into: list[FlowIn], out: list[FlowOut], named: list[Scope], reach: list[Reach]
) -> None:
    policy = bare(Manage(in_=tuple(into), out=tuple(out)), scopes=tuple(named), reach=tuple(reach))
    found = chains(closed(policy, users={"prober": 1}))
    assert set(found) == set(BASE)
    for name in (
        "clear_in",
        "clear_out",
        "clear_forward",
        "replies",
        "ending_in",
        "ending_out",
        "booting_in",
    ):
        assert found[name] == BASE[name]
    # who begins a flow is only written down: nothing there accepts, and nothing drops but what is not
    assert not any("accept" in rule for name in ("begins", "answers", "rightly") for rule in found[name])
    assert not any("drop" in rule for name in ("begins", "answers", "rightly") for rule in found[name])
    for name in ("judge_in", "judge_out", "judge_forward"):
        assert found[name][-1].startswith("counter drop")
        # the lease, loopback, later fragments, direction, guarded and boot stand first, the ending last
        first, last = (7, 2) if name != "judge_forward" else (1, 1)
        whole, base = ([_unnamed(rule) for rule in each[name]] for each in (found, BASE))
        assert whole[:first] == base[:first]
        assert whole[-last:] == base[-last:]
        # nothing between them accepts without naming an address, a user or the link's own
        for rule in found[name][first:-last]:
            by_name = rule.startswith(("ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr", "meta skuid 1 ip"))
            assert by_name or "hoplimit" in rule or "limit rate" in rule or "@booting" in rule
    assert found["judge_forward"] == [*BASE["judge_forward"][:1], found["judge_forward"][-1]]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_an_address_is_a_network_or_refused_and_never_text_of_its_own(address: str) -> None:
    try:
        text = closed(bare(Manage(in_=(FlowIn(from_=address, tcp=22),))), users={})
    except Malformed:
        return
    (rule,) = [rule for rule in chains(text)["judge_in"] if "dport 22 " in rule]
    assert set(rule) <= set("0123456789abcdef:./ ip6saddrtcpdportaccept")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_attributes_are_read_from_any_bytes(data: bytes) -> None:
    read = list(nfnetlink.attributes(data))
    assert sum(4 + len(payload) for _, payload in read) <= len(data)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=30)), max_size=8))
def test_attributes_are_read_as_they_were_written(pairs: list[tuple[int, bytes]]) -> None:
    whole = b"".join(nfnetlink.attribute(kind, payload) for kind, payload in pairs)
    assert list(nfnetlink.attributes(whole)) == pairs
    assert list(nfnetlink.attributes(nfnetlink.nested(1, whole))) == [(1, whole)]
