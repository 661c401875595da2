# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from tests.integration.gate_policy import gate_policy, uids
from tests.unit.rules.test_rules_ruleset import bare, chains
from vmwarden.errors import Malformed
from vmwarden.model.policy import Reach
from vmwarden.rules import ruleset
from vmwarden.rules.netdev_ruleset import anew, fingerprint, names, table

USERS = uids(["prober"])


def found() -> dict[str, list[str]]:
    return chains(table(gate_policy(), users=USERS))


def test_both_judges_end_with_a_drop_that_names_the_rules() -> None:
    mark = fingerprint(gate_policy(), users=USERS)
    for name in ("judge_in", "judge_out"):
        assert found()[name][-1] == f'counter drop comment "vmwarden.layer2/1 {mark}"'


def test_no_judge_accepts_ip_by_itself_but_for_the_link() -> None:
    for name in ("judge_in", "judge_out"):
        for rule in found()[name]:
            if rule.endswith("accept"):
                by_the_link = "hoplimit" in rule or "limit rate" in rule
                assert by_the_link or "arp" in rule or "0x0806" in rule, rule


def test_later_fragments_are_dropped_before_anything_passes_by_port() -> None:
    for name, before in (("judge_in", 2), ("true_out", 0)):
        assert [rule.partition(" counter")[0] for rule in found()[name][before : before + 2]] == [
            "ip frag-off & 0x1fff != 0",
            "frag frag-off != 0",
        ]


def test_manage_reach_and_scopes_are_for_addresses_of_this_vm() -> None:
    """What is jumped to from a judge or from what is proven to be IP: only behind fib."""
    whole = table(gate_policy(), users=USERS)
    for name in ("local_in", "local_out"):
        jumps = [line for line in whole.splitlines() if line.strip().endswith(f"jump {name}")]
        assert len(jumps) == 1
        assert re.search(r"fib [sd]addr type local", jumps[0])
    (asked,) = [rule for rule in found()["local_out"] if "dport 123 " in rule]
    assert asked.startswith("meta skuid 4242 ip daddr 10.99.0.2/32 udp dport 123 update @asked4 {")


def test_what_passes_is_what_the_first_layer_lets_pass() -> None:
    first = chains(ruleset.closed(gate_policy(), users=USERS))
    for direction in ("in", "out"):
        assert found()[f"scopes_{direction}"] == first[f"scopes_{direction}"]
        named = {rule for rule in first[f"judge_{direction}"] if rule.startswith(("ip", "meta skuid"))}
        # who began a flow is for the first layer alone to know
        shared = {rule for rule in named if "frag-off" not in rule and "@backward" not in rule}
        assert shared <= set(found()[f"local_{direction}"])
        assert found()[f"booting_{direction}"] == first[f"booting_{direction}"]
    assert found()["replies"] == first["replies"]
    assert [*found()["ending_out"], *found()["ending_own"]] == first["ending_out"]


def test_an_ending_lets_nothing_in_but_what_the_first_layer_answers() -> None:
    """Not what is for another at the link, no SYN; only by chain told, which writes the flow down."""
    rules = found()["ending_in"]
    assert rules[:3] == [
        "meta l4proto != tcp return",
        "meta pkttype != host return",
        "tcp flags & (syn | rst | ack) != ack return",
    ]
    assert not any(rule.endswith("accept") for rule in rules)
    assert [rule for rule in rules if "goto told" in rule] == rules[-2:]
    assert all(rule.startswith("fib daddr") for rule in rules[-2:])
    assert all(rule.startswith("add @reset") for rule in found()["told"])
    assert found()["judge_in"][-2] == "meta protocol @ending jump ending_in"


def test_own_resets_are_those_of_addresses_of_this_vm() -> None:
    assert found()["local_out"][-1] == "meta protocol @ending jump ending_own"
    assert all("@reset" in rule for rule in found()["ending_out"])


def test_the_exemption_at_boot_can_be_left_out() -> None:
    whole = table(gate_policy(), users=USERS, metadata=False)
    assert "169.254" not in whole
    assert chains(whole)["booting_out"] == []
    assert names(gate_policy(), users=USERS) == names(gate_policy(), users=USERS, metadata=False)


def test_a_drain_refuses_a_syn_before_it_passes_the_rest() -> None:
    rules = found()["drain"]
    assert rules[-2:] == ["tcp flags & (syn | ack) != syn accept", "meta l4proto != tcp accept"]
    for name in ("judge_in", "judge_out"):
        assert found()[name][0] == "meta protocol @lease_drain jump drain"


def test_there_is_no_connection_tracking_no_clock_and_no_device() -> None:
    whole = table(gate_policy(), users=USERS)
    for word in (" ct ", "\tct ", "meta hour", "meta time", "device"):
        assert word not in whole


def test_exchanging_flushes_every_chain_and_anew_begins_with_nothing() -> None:
    whole = table(gate_policy(), users=USERS)
    for name in names(gate_policy(), users=USERS):
        assert whole.index(f"flush chain netdev vmwarden {name}\n") < whole.index("table netdev vmwarden {")
    assert "delete" not in whole
    assert anew(gate_policy(), users=USERS).startswith(
        "add table netdev vmwarden\ndelete table netdev vmwarden\n"
    )


def test_other_rules_have_another_name() -> None:
    assert fingerprint(gate_policy(), users=USERS) != fingerprint(gate_policy(1), users=USERS)
    assert fingerprint(gate_policy(), users=USERS) != fingerprint(gate_policy(), users={"prober": 1})


def test_a_user_that_is_not_there_is_refused() -> None:
    with pytest.raises(Malformed):
        table(bare(reach=(Reach(to="10.0.0.1/32", as_="nobody-here", udp=123),)), users={})
