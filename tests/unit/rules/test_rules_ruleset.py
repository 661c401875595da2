# SPDX-License-Identifier: Apache-2.0
import re

import msgspec
import pytest

from tests.integration.gate_policy import gate_policy, uids
from vmwarden.errors import Malformed
from vmwarden.model.hours import Interval
from vmwarden.model.policy import FlowIn, FlowOut, Hours, Manage, Policy, Reach, Scope, Valid
from vmwarden.rules import booting, drain, ending
from vmwarden.rules.flat import flat
from vmwarden.rules.ruleset import (
    DRAIN_BITS,
    GUARDED_BIT,
    NO_MANAGE,
    OPEN_BIT,
    OTHER_BITS,
    OUR_BITS,
    boot_file,
    closed,
    exchanged,
    fingerprint,
    intact,
)

USERS = uids(["prober"])


NO_FLOWS = Manage()


def bare(manage: Manage = NO_FLOWS, **more: tuple[Reach, ...] | tuple[Scope, ...]) -> Policy:
    return Policy(
        format="vmwarden.policy/1",
        name="bare",
        version=1,
        vms=("vm",),
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        mode="enforce",
        manage=manage,
        **more,  # type: ignore[arg-type]
    )


def draining(drained: str = "30s") -> Policy:
    """The gate's policy with a drain before each closing."""
    return msgspec.structs.replace(gate_policy(), hours=Hours(open=(Interval(),), drain=drained))


def chains(text: str) -> dict[str, list[str]]:
    """Rules of each chain; the hook line is left out."""
    return {
        name: [rule for line in body.splitlines() if (rule := line.strip()) and not rule.startswith("type ")]
        for name, body in re.findall(r"\tchain (\w+) \{\n(.*?)\t\}", text, re.DOTALL)
    }


def test_the_lease_is_looked_at_first_and_the_last_rule_drops() -> None:
    found = chains(closed(gate_policy(), users=USERS))
    judges = [name for name in found if name.startswith("judge_")]
    assert judges == ["judge_in", "judge_out", "judge_forward"]
    for name in judges:
        assert found[name][0].startswith(f"meta mark & {OUR_BITS:#x} == {OPEN_BIT:#x} ")
        assert found[name][0].endswith(" accept")
        assert re.fullmatch(r'counter drop comment "vmwarden\.gate/1 [0-9a-f]{16}"', found[name][-1])


def test_nothing_of_what_reference_gate_forbids_is_in_the_rules() -> None:
    for text in (closed(gate_policy(9), users=USERS), closed(draining(), users=USERS), NO_MANAGE):
        rules = "\n".join(rule for found in chains(text).values() for rule in found)
        for word in (r"\bct ", "meta hour", "meta day", "meta time", "established"):
            assert not re.search(word, rules)


def test_every_set_that_a_rule_names_is_made_and_every_chain() -> None:
    for policy in (gate_policy(), draining()):
        text = closed(policy, users=USERS)
        sets = set(re.findall(r"^\tset (\w+) \{", text, re.MULTILINE))
        named = set(re.findall(r"@(\w+)", text))
        assert named <= sets
        assert set(re.findall(r"(?:jump|goto) (\w+)", text)) <= set(chains(text))


def test_the_marks_are_two_bits_of_their_own() -> None:
    assert OPEN_BIT.bit_count() == GUARDED_BIT.bit_count() == 1
    assert OPEN_BIT ^ GUARDED_BIT ^ OTHER_BITS == 0xFFFF_FFFF


def test_replies_of_manage_and_reach_over_tcp_go_through_the_chain_that_refuses_a_syn() -> None:
    policy = bare(
        Manage(in_=(FlowIn(from_="10.0.0.0/8", tcp=22),), out=(FlowOut(to="10.1.0.0/16", tcp=443),)),
        reach=(Reach(to="10.2.0.1/32", as_="prober", tcp=8443),),
    )
    found = chains(closed(policy, users=USERS))
    assert "ip saddr 10.0.0.0/8 tcp dport 22 accept" in found["judge_in"]
    assert "ip daddr 10.0.0.0/8 tcp sport 22 jump replies" in found["judge_out"]
    assert "ip daddr 10.1.0.0/16 tcp dport 443 accept" in found["judge_out"]
    assert "ip saddr 10.1.0.0/16 tcp sport 443 jump replies" in found["judge_in"]
    assert "meta skuid 4242 ip daddr 10.2.0.1/32 tcp dport 8443 accept" in found["judge_out"]
    assert "ip saddr 10.2.0.1/32 tcp sport 8443 jump replies" in found["judge_in"]
    assert found["replies"] == ["tcp flags & ack == ack accept", "tcp flags & (syn | rst) == rst accept"]


def test_without_a_way_to_manage_there_is_nothing_for_its_path_mtu() -> None:
    with_manage = closed(bare(Manage(in_=(FlowIn(from_="10.0.0.0/8", tcp=22),))), users={})
    assert "packet-too-big" in with_manage
    assert "packet-too-big" not in closed(bare(), users={})


def test_forwarded_packets_pass_only_by_the_lease() -> None:
    assert len(chains(closed(gate_policy(9), users=USERS))["judge_forward"]) == 2


def test_ipv6_addresses_are_of_their_family() -> None:
    found = chains(closed(bare(Manage(in_=(FlowIn(from_="fd00::/8", tcp=22),))), users={}))
    assert "ip6 saddr fd00::/8 tcp dport 22 accept" in found["judge_in"]


def test_both_forms_have_the_same_rules_and_the_head_of_a_transaction() -> None:
    replaced, kept = closed(gate_policy(), users=USERS), exchanged(gate_policy(), users=USERS)
    assert replaced.replace("delete table", "flush table") == kept
    assert "\nadd table inet vmwarden\ndelete table inet vmwarden\ntable inet vmwarden {\n" in replaced


def test_the_fingerprint_names_the_rules_and_not_the_policy() -> None:
    plain = fingerprint(gate_policy(), users=USERS)
    assert plain == fingerprint(gate_policy(), users=USERS)
    assert plain != fingerprint(gate_policy(1), users=USERS)
    assert plain != fingerprint(gate_policy(), users={"prober": 1})
    assert plain in closed(gate_policy(), users=USERS)


def test_a_question_of_reach_over_udp_is_written_down_and_only_its_answer_passes() -> None:
    found = chains(closed(gate_policy(), users=USERS))
    (out,) = [rule for rule in found["judge_out"] if "dport 123 " in rule]
    (into,) = [rule for rule in found["judge_in"] if "sport 123 " in rule]
    question = "ip daddr . udp dport . ip saddr . udp sport"
    assert (
        out == f"meta skuid 4242 ip daddr 10.99.0.2/32 udp dport 123 update @asked4 {{ {question} }} accept"
    )
    answer = "ip saddr . udp sport . ip daddr . udp dport"
    assert into == f"ip saddr 10.99.0.2/32 udp sport 123 {answer} @asked4 accept"


def test_the_boot_file_alone_fills_the_exemption_and_only_for_a_while() -> None:
    text, running = boot_file(gate_policy(), users=USERS), closed(gate_policy(), users=USERS)
    assert text == running + "add element inet vmwarden booting { ipv4 timeout 2m, ipv6 timeout 2m }\n"
    assert intact(text) and intact(running)
    assert flat(text) == flat(running), "who loads it later does not fill it again"
    assert not intact(text + "\n")
    assert not intact(text.replace("timeout 2m,", "timeout 2h,"))
    assert not intact(text.replace("booting {", "ending {"))


def test_the_exemption_is_for_root_one_port_and_addresses_and_can_be_left_out() -> None:
    found = chains(closed(gate_policy(), users=USERS))
    assert "meta skuid 0 ip daddr 169.254.169.254 tcp dport { 80 } accept" in found["booting_out"]
    assert len(found["booting_out"]) == len(found["booting_in"]) == len(booting.SERVICES)
    assert all(
        rule.startswith("meta skuid 0 ip") and " tcp dport { 80" in rule for rule in found["booting_out"]
    )
    assert all(rule.endswith("jump replies") for rule in found["booting_in"])
    assert "meta nfproto @booting jump booting_out" in found["judge_out"]
    refused = boot_file(gate_policy(), users=USERS, metadata=False)
    assert refused == closed(gate_policy(), users=USERS, metadata=False)
    assert "169.254" not in refused and "booting" not in refused and intact(refused)
    names = {fingerprint(gate_policy(), users=USERS, metadata=metadata) for metadata in (True, False)}
    assert len(names) == 2


def test_a_reset_goes_out_only_by_its_length_and_after_everything_that_passes() -> None:
    found = chains(closed(gate_policy(), users=USERS))
    for name in ("judge_in", "judge_out"):
        assert found[name][-2].startswith("meta nfproto @ending meta l4proto tcp jump ending_")
    for rule in found["ending_out"]:
        assert re.search(
            r"\b(ip length (40 tcp doff 5|52 tcp doff 8)|ip6 length (20 tcp doff 5|32 tcp doff 8)) ", rule
        )
        assert "@reset" in rule or ("meta skuid" in rule and "limit rate" in rule)
    assert found["ending_in"][0] == "tcp flags & (syn | rst | ack) != ack return", "no answer to a reset"
    assert [rule for rule in found["ending_in"] if "reject" in rule] == found["ending_in"][-2:]
    assert ending.RATE + " return" in found["ending_in"]


def test_only_a_policy_with_a_drain_pays_for_one() -> None:
    plain, drained = closed(gate_policy(), users=USERS), closed(draining(), users=USERS)
    assert closed(draining("0s"), users=USERS) == plain
    assert "known_" not in plain and "drain" not in plain
    assert not drain.asked(gate_policy()) and drain.asked(draining())
    found = chains(drained)
    for name in ("in", "out"):
        lease, drains, *rest = found[f"judge_{name}"]
        assert lease.startswith(f"meta mark & {OUR_BITS:#x} == {OPEN_BIT:#x} ")
        assert lease.endswith(f" jump open_{name}")
        assert drains.startswith(f"meta mark & {OUR_BITS:#x} == {DRAIN_BITS:#x} ")
        assert [rule.partition(" comment")[0] for rule in rest] == [
            rule.partition(" comment")[0] for rule in chains(plain)[f"judge_{name}"][1:]
        ]
        assert found[f"open_{name}"][-1] == "accept", "the lease passes everything"
        # what a drain does not pass goes on to manage
        assert all(not rule.endswith(("drop", "return")) for rule in found[f"drain_{name}"])
        assert "accept" not in found[f"drain_{name}"]
    assert DRAIN_BITS == OPEN_BIT | GUARDED_BIT


def test_without_a_policy_loopback_and_the_link_are_all_that_passes() -> None:
    found = chains(NO_MANAGE)
    assert set(found) == {"judge_in", "judge_out", "judge_forward"}
    assert found["judge_forward"] == ["counter drop"]
    assert found["judge_in"][0] == "iif lo accept"
    assert not any("mark" in rule for rules in found.values() for rule in rules)
    assert all(rules[-1] == "counter drop" for rules in found.values())


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (bare(Manage(in_=(FlowIn(from_="10.0.0.0/33", tcp=22),))), "manage.in: "),
        (bare(Manage(in_=(FlowIn(from_="300.0.0.0/8", tcp=22),))), "manage.in: "),
        (bare(Manage(in_=(FlowIn(from_="10.0.0.0/8"),))), "exactly one port"),
        (bare(Manage(in_=(FlowIn(from_="10.0.0.0/8", tcp=22, udp=22),))), "who began"),
        (bare(Manage(in_=(FlowIn(from_="10.0.0.0/8", udp=22),))), "who began"),
        (bare(Manage(out=(FlowOut(to="10.0.0.0/8", udp=22),))), "who began"),
        (bare(reach=(Reach(to="10.0.0.1/32", as_="nobody-knows", udp=1),)), "no user nobody-knows"),
        (bare(reach=(Reach(to="10.0.0.1/32", as_="prober"),)), "exactly one port"),
        (bare(scopes=(Scope(name="s", in_=(FlowIn(from_=":/8", udp=1),)),)), "scope s: "),
    ],
)
def test_what_has_no_rule_is_refused(policy: Policy, said: str) -> None:
    with pytest.raises(Malformed, match=re.escape(said)):
        closed(policy, users=USERS)
    with pytest.raises(Malformed, match=re.escape(said)):
        fingerprint(policy, users=USERS)
