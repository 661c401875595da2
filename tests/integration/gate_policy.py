# SPDX-License-Identifier: Apache-2.0
"""The policy of the gate's tests, for the addresses of vmwarden.testing.network."""

from collections.abc import Iterable

from vmwarden.controls.gate import NftGate
from vmwarden.model.policy import FlowIn, FlowOut, Manage, Policy, Reach, Scope, Valid

#: no such user is needed on the machine: the uid is given
PROBER_UID = 4242

MANAGE_IN, MANAGE_OUT, REACH, SCOPE_UDP_IN, SCOPE_TCP_IN, SCOPE_UDP_OUT = 22, 443, 123, 7001, 7011, 7003


def gate_policy(more_scopes: int = 0) -> Policy:
    """Manage and a scope with the peer; more_scopes make another, longer text of the same meaning."""
    return Policy(
        format="vmwarden.policy/1",
        name="gate-test",
        version=1,
        vms=("gate-test",),
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        mode="enforce",
        manage=Manage(
            in_=(
                FlowIn(from_="10.99.0.2/32", tcp=MANAGE_IN),
                FlowIn(from_="fd99::2/128", tcp=MANAGE_IN),
            ),
            out=(FlowOut(to="10.99.0.2/32", tcp=MANAGE_OUT),),
        ),
        reach=(Reach(to="10.99.0.2/32", as_="prober", udp=REACH),),
        scopes=(
            *(
                Scope(name=f"more-{n}", in_=(FlowIn(from_=f"192.0.2.{n % 250}/32", udp=1000 + n),))
                for n in range(more_scopes)
            ),
            Scope(
                name="service",
                in_=(
                    FlowIn(from_="10.99.0.2/32", udp=SCOPE_UDP_IN),
                    FlowIn(from_="10.99.0.2/32", tcp=SCOPE_TCP_IN),
                ),
                out=(FlowOut(to="10.99.0.2/32", udp=SCOPE_UDP_OUT),),
            ),
        ),
    )


def uids(names: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(names, PROBER_UID)


def nft_gate(*, lasting: bool = True) -> NftGate:
    return NftGate(uids, lasting_tables=lasting)
