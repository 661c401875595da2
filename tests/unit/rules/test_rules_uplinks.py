# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.model.link import Link
from vmwarden.rules.uplinks import uplinks

LOOPBACK = Link(1, "lo", loopback=True)


def names(*links: Link) -> list[str]:
    return [uplink.name for uplink in uplinks(links)]


def test_hardware_is_what_hangs_on_a_bus_or_has_no_kind() -> None:
    assert names(LOOPBACK, Link(2, "eth0", bus="virtio/virtio1"), Link(3, "old0")) == ["eth0", "old0"]


def test_hardware_with_a_kind_of_its_own_is_an_uplink_too() -> None:
    assert names(Link(2, "can0", kind="can", bus="pci/0000:00:04.0")) == ["can0"]


@pytest.mark.parametrize(
    "kind", ["bridge", "bond", "vlan", "macvlan", "ipvlan", "veth", "dummy", "tun", "wireguard", "vxlan"]
)
def test_what_is_made_of_software_is_none(kind: str) -> None:
    assert names(LOOPBACK, Link(2, "x0", kind=kind, lower=3, elsewhere=True)) == []


def test_the_caller_says_what_stands_for_hardware() -> None:
    links = (Link(2, "eth0", kind="veth", elsewhere=True), Link(3, "eth1", kind="veth", elsewhere=True))
    assert [each.index for each in uplinks(links, stands_in=lambda link: link.name == "eth1")] == [3]


def test_every_lower_device_and_what_is_above_it() -> None:
    links = (
        Link(2, "eth0", bus="pci/0", master=4),
        Link(3, "eth1", bus="pci/1", master=4),
        Link(4, "bond0", kind="bond", master=6),
        Link(5, "vlan5", kind="vlan", lower=4),
        Link(6, "br0", kind="bridge"),
        Link(7, "mv0", kind="macvlan", lower=6),
    )
    found = {each.name: each.above for each in uplinks(links)}
    assert set(found) == {"eth0", "eth1"}
    assert found["eth0"][0] == "bond0"
    assert set(found["eth0"]) == {"bond0", "vlan5", "br0", "mv0"}


def test_a_device_that_stands_on_one_of_another_namespace_is_not_above_ours() -> None:
    links = (Link(2, "eth0", bus="pci/0"), Link(3, "mv0", kind="macvlan", lower=2, elsewhere=True))
    assert uplinks(links)[0].above == ()


def test_a_ring_of_devices_ends() -> None:
    links = (Link(2, "eth0", bus="pci/0", master=3, lower=3), Link(3, "odd0", kind="odd", master=2, lower=2))
    assert uplinks(links)[0].above == ("odd0",)
