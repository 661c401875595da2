# SPDX-License-Identifier: Apache-2.0
"""Which flows a closed gate keeps."""

from ipaddress import ip_address, ip_network
from typing import Literal

import pytest

from tests.unit.rules.test_rules_ruleset import bare
from vmwarden.errors import Malformed
from vmwarden.model.flow import Flow
from vmwarden.model.policy import FlowIn, FlowOut, Manage, Policy, Reach, Scope
from vmwarden.rules.kept_flows import keeper

VM, VM6 = "10.0.2.15", "fd00::15"
UID = 123


def policy() -> Policy:
    return bare(
        manage=Manage(
            in_=(FlowIn(from_="10.20.0.0/16", tcp=22), FlowIn(from_="fd00:20::/32", tcp=22)),
            out=(FlowOut(to="10.20.0.10/32", tcp=443), FlowOut(to="10.20.0.11/32", tcp=443)),
        ),
        reach=(
            Reach(to="10.20.0.1/32", as_="clock", udp=123),
            Reach(to="10.20.0.2/32", as_="clock", tcp=4460),
        ),
        scopes=(Scope(name="web", in_=(FlowIn(from_="0.0.0.0/0", tcp=80),)),),
    )


def kept(
    local: str,
    local_port: int,
    remote: str,
    remote_port: int,
    *,
    uid: int = 0,
    protocol: Literal["tcp", "udp"] = "tcp",
    users: dict[str, int] | None = None,
) -> bool:
    own = [ip_network(text) for text in (f"{VM}/32", f"{VM6}/128", "172.17.0.1/32", "10.77.0.0/16")]
    rule = keeper(policy(), users={"clock": UID} if users is None else users, own=own)
    return rule(
        Flow(protocol, ip_address(local).packed, local_port, ip_address(remote).packed, remote_port, uid)
    )


@pytest.mark.parametrize(
    "flow",
    [
        (VM, 22, "10.20.7.9", 50000),
        (VM6, 22, "fd00:20::9", 50000),
        (VM, 40000, "10.20.0.10", 443),
        (VM, 40000, "10.20.0.11", 443),
        ("127.0.0.1", 8080, "127.0.0.1", 40000),
        ("127.0.0.1", 8080, "127.8.8.8", 40000),
        ("::1", 8080, "::1", 40000),
        (VM, 8080, VM, 40000),
        (VM, 8080, "172.17.0.1", 40000),
        (VM6, 8080, VM6, 40000),
        (VM, 8080, "10.77.3.4", 40000),
        # an address of an interface that was taken away while the flow lived
        ("10.9.9.9", 8080, "10.9.9.9", 40000),
    ],
)
def test_manage_and_the_vm_with_itself_are_kept(flow: tuple[str, int, str, int]) -> None:
    assert kept(*flow)


@pytest.mark.parametrize(
    "flow",
    [
        (VM, 22, "10.21.0.1", 50000),
        (VM6, 22, "fd00:21::9", 50000),
        # the port of manage.in is one of this VM, that of manage.out one over there
        (VM, 50000, "10.20.7.9", 22),
        (VM, 443, "10.20.0.10", 40000),
        (VM, 40000, "10.20.0.12", 443),
        (VM, 80, "10.20.7.9", 50000),
        (VM, 8080, "10.78.3.4", 40000),
        # addresses that are the same number in the other family
        (VM6, 22, str(ip_address(int(ip_address("10.20.7.9")) << 96)), 50000),
    ],
)
def test_everything_else_is_ended_and_so_is_what_belongs_to_scopes(flow: tuple[str, int, str, int]) -> None:
    assert not kept(*flow)


def test_manage_is_tcp() -> None:
    assert not kept(VM, 22, "10.20.7.9", 50000, protocol="udp")
    assert not kept(VM, 40000, "10.20.0.10", 443, protocol="udp")


def test_reach_is_for_its_user_its_protocol_and_its_address() -> None:
    assert kept(VM, 40000, "10.20.0.1", 123, protocol="udp", uid=UID)
    assert kept(VM, 40000, "10.20.0.2", 4460, uid=UID)
    assert not kept(VM, 40000, "10.20.0.1", 123, protocol="udp", uid=UID + 1)
    assert not kept(VM, 40000, "10.20.0.1", 123, uid=UID)
    assert not kept(VM, 40000, "10.20.0.2", 123, protocol="udp", uid=UID)
    assert not kept(VM, 40000, "10.20.0.1", 123, protocol="udp", uid=UID, users={})


def test_dhcp_is_kept_by_both_ports() -> None:
    assert kept(VM, 68, "10.0.2.2", 67, protocol="udp")
    assert kept(VM6, 546, "fe80::2", 547, protocol="udp")
    assert not kept(VM, 68, "10.0.2.2", 67)
    assert not kept(VM, 67, "10.0.2.2", 68, protocol="udp")


def test_an_address_that_is_none_is_refused() -> None:
    bad = bare(manage=Manage(in_=(FlowIn(from_="10.0.0.0/99", tcp=22),)))
    with pytest.raises(Malformed):
        keeper(bad, users={}, own=())
