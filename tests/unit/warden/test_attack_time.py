# SPDX-License-Identifier: Apache-2.0
"""Hosts with a key, or one that had it, and stamps that are no time."""

import msgspec
import pytest

from tests.unit.warden.ward import Ward, policy, statement
from vmwarden.model.installed import Floors
from vmwarden.model.message import RawStatement
from vmwarden.model.policy import Place, PlaceEntry, Trust, TrustedHost
from vmwarden.rules import canonical
from vmwarden.testing.owners import public_line


def answer(ward: Ward, iat: int, *, by: str = "rack-7") -> None:
    """A fresh statement with that stamp, good for a minute."""
    order = ward.order()
    assert order.challenge is not None
    token = statement(by, iat, nonce=order.challenge.nonce, country="DE")
    ward.warden.receive(
        canonical.encode(RawStatement(turn=order.turn, source="virtio-serial", jws=token, boot_frozen=False))
    )
    ward.gathered(order)


@pytest.mark.parametrize("iat", [2**53 - 60, 10**12, 253_402_300_800, 0])
def test_a_stamp_that_is_no_time_neither_stops_the_warden_nor_poisons_the_floor(iat: int) -> None:
    ward = Ward().start()
    answer(ward, iat)
    ward.pass_time(2_000)
    ward.warden.status()

    written = canonical.encode(Floors(time_utc_ms=ward.state.floor))
    canonical.decode(written, Floors, limit=1000, what="floors")
    assert ward.state.floor < 4_200_000_000_000

    ward.clock.advance(21_000)
    ward.round()
    assert ward.gate.passing() == "open", "an honest answer heals it"


def test_the_stamp_of_a_host_that_is_trusted_no_more_is_no_time() -> None:
    both = Trust(
        hosts=(
            TrustedHost(name="rack-7", key=public_line("rack-7")),
            TrustedHost(name="rack-8", key=public_line("rack-8")),
        )
    )
    ward = Ward(policy(trust=both)).start()
    year_ago = ward.clock.now().utc_ms // 1000 - 365 * 86_400
    answer(ward, year_ago, by="rack-8")
    ward.state.installed = msgspec.structs.replace(ward.state.installed, policy=policy(version=8))
    ward.warden.reload()

    expired = statement("rack-7", year_ago, country="DE")
    ward.warden.receive(
        canonical.encode(RawStatement(turn=9, source="fw_cfg", jws=expired, boot_frozen=True))
    )

    assert ward.gate.passing() == "manage", "rack-8 sets no clock here any more"
    assert "statement.expired" in ward.findings()


def test_a_policy_with_a_key_that_is_none_trusts_nobody_by_it() -> None:
    odd = Trust(hosts=(TrustedHost(name="odd", key="ssh-ed25519 AAAA"),))
    ward = Ward().start()
    ward.state.installed = msgspec.structs.replace(
        ward.state.installed,
        policy=policy(version=8, trust=odd, place=Place(any_of=(PlaceEntry(country="DE"),))),
    )
    ward.warden.reload()
    answer(ward, ward.clock.now().utc_ms // 1000)

    assert ward.gate.passing() == "manage"
