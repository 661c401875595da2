# SPDX-License-Identifier: Apache-2.0
"""What is found of the ways around the gate, and that a device can be switched off."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.gate_around import XDP_PASS, XdpSender, attach_tcx, attach_xdp
from tests.integration.gate_policy import gate_policy, uids
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.controls.way_around import WayAround
from vmwarden.errors import ControlFailed
from vmwarden.linux.rtnetlink import Links
from vmwarden.model.link import GoneUplink, Uplink
from vmwarden.model.verdict import Answer
from vmwarden.testing.network import Lan

pytestmark = pytest.mark.root


@pytest.fixture
def uplink(network: Lan) -> Iterator[Uplink]:
    with network.vm.entered():
        yield Uplink(socket.if_nametoindex("eth0"), "eth0")


def found(uplink: Uplink) -> list[tuple[str, str]]:
    around = WayAround()
    findings = around.look([uplink])
    around.close()
    assert all(finding.answer == Answer.DENY and finding.found for finding in findings)
    return [(finding.id, finding.subject) for finding in findings]


def test_there_is_none_where_nobody_made_one(uplink: Uplink) -> None:
    assert found(uplink) == []


def test_xdp_on_an_uplink_and_not_on_other_devices(uplink: Uplink) -> None:
    attach_xdp(socket.if_nametoindex("eth1"), XDP_PASS)
    assert found(uplink) == []
    attach_xdp(uplink.index, XDP_PASS)
    assert found(uplink) == [("gate.around.xdp", "eth0")]


def test_filters_of_tc_on_an_uplink_and_what_redirects_on_others(network: Lan, uplink: Uplink) -> None:
    def tc(*words: str) -> None:
        network.vm.run("tc", *words)

    matches = ("protocol", "all", "u32", "match", "u32", "0", "0")
    for device in ("eth0", "eth1"):
        tc("qdisc", "add", "dev", device, "clsact")
    assert found(uplink) == [], "an empty queue filters nothing"
    tc("filter", "add", "dev", "eth1", "egress", *matches, "classid", "1:1")
    assert found(uplink) == []
    tc("filter", "add", "dev", "eth0", "ingress", *matches, "classid", "1:1")
    assert found(uplink) == [("gate.around.tc", "eth0")]
    tc(
        *("filter", "add", "dev", "eth1", "ingress", *matches),
        *("action", "mirred", "egress", "redirect", "dev", "eth0"),
    )
    assert found(uplink) == [("gate.around.tc", "eth0"), ("gate.around.tc", "eth1")]


def test_programs_of_tcx(uplink: Uplink) -> None:
    link = attach_tcx(uplink.index)
    assert found(uplink) == [("gate.around.tc", "eth0")]
    os.close(link)
    assert found(uplink) == []


def test_sockets_of_af_xdp(uplink: Uplink) -> None:
    sender = XdpSender(uplink.index)
    assert found(uplink) == [("gate.around.af-xdp", "any uplink")]
    sender.close()
    assert found(uplink) == []


def test_uplinks_that_are_gone_or_ungated_are_told(uplink: Uplink) -> None:
    gone = (GoneUplink(uplink, 3, 7), GoneUplink(uplink, None, 0))
    findings = WayAround().look([], gone=gone, ungated={"eth9": "no such hook"})
    assert [(finding.id, finding.answer, finding.subject) for finding in findings] == [
        ("gate.around.ungated", Answer.DENY, "eth9"),
        ("gate.around.uplink-gone", Answer.DENY, "eth0"),
        ("gate.around.uplink-gone", Answer.UNKNOWN, "eth0"),
    ]


def test_without_the_right_to_look_that_is_a_finding(uplink: Uplink) -> None:
    os.seteuid(65534)
    try:
        findings = WayAround().look([uplink])
    finally:
        os.seteuid(0)
    assert {(finding.id, finding.answer) for finding in findings} == {
        ("gate.around.unreadable", Answer.UNKNOWN)
    }


def test_a_device_can_be_switched_off(network: Lan, uplink: Uplink) -> None:
    around = WayAround()
    around.link_down(uplink)
    around.link_down(uplink)
    links = Links()
    assert {link.name: link.up for link in links.all()}["eth0"] is False
    links.close()
    network.vm.run("ip", "link", "del", "eth0")
    with pytest.raises(ControlFailed):
        around.link_down(uplink)
    around.close()


def a_gate() -> NftGate:
    second = SecondLayer(uids, stands_in=lambda link: link.name == "eth0")
    return NftGate(uids, second=second, around=WayAround())


def test_what_a_dead_warden_has_switched_off_the_next_one_switches_on(network: Lan, uplink: Uplink) -> None:
    network.vm.run("ip", "link", "property", "add", "dev", "eth0", "altname", "theirs")
    network.vm.run("ip", "link", "set", "eth1", "down")
    attach_xdp(uplink.index, XDP_PASS)
    with closing(a_gate()) as dies:
        dies.install(gate_policy())
        assert dies.cut_links() == ("eth0",)
    with closing(Links()) as links, closing(a_gate()) as after:
        after.install(gate_policy())
        assert after.cut_links() == (), "it is off already"
        assert after.mend_links() == ("eth0",)
        found = {link.name: link for link in links.all()}
        assert found["eth0"].up
        assert found["eth0"].altnames == ("theirs",)
        assert not found["eth1"].up, "others have switched that off"
        assert after.mend_links() == ()
        after.remove()
    with closing(a_gate()) as nothing_left:
        assert nothing_left.mend_links() == ()


def test_a_device_that_went_while_it_was_off_is_not_waited_for(network: Lan, uplink: Uplink) -> None:
    attach_xdp(uplink.index, XDP_PASS)
    with closing(a_gate()) as gate:
        gate.install(gate_policy())
        gate.cut_links()
        network.vm.run("ip", "link", "del", "eth0")
        assert gate.mend_links() == ("eth0",)
        gate.remove()


def test_what_is_out_of_reach_is_told_of_the_devices_that_there_are(network: Lan, uplink: Uplink) -> None:
    with closing(a_gate()) as gate:
        gate.install(gate_policy())
        here = gate.out_of_reach()
        assert not any("eth0" in each or "IP stack" in each for each in here)
        network.vm.run("ip", "link", "set", "eth0", "netns", network.behind.name, "name", "taken0")
        gate.heard()
        assert gate.out_of_reach() == ("eth0: it is in another network namespace", *here)
        gate.remove()
    with closing(NftGate(uids)) as alone:
        alone.install(gate_policy())
        assert alone.out_of_reach() == (
            "all that does not go through this VM's IP stack: there is no second layer",
        )
        alone.remove()
