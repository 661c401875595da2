# SPDX-License-Identifier: Apache-2.0
from vmwarden.cli.daemon import text_of
from vmwarden.model.control import GateStatus, Status
from vmwarden.model.decision import Decision
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer


def lines(gate: GateStatus) -> dict[str, str]:
    """What status says, by the first words of each line."""
    status = Status(
        schema="vmwarden.status/1",
        vm="vm",
        tier=0,
        mode="enforce",
        armed=True,
        enrolled=True,
        posture=Posture.HELD,
        posture_since="",
        settled=True,
        last_verified="",
        decision=Decision(posture=Posture.HELD, answer=Answer.UNKNOWN),
        gate=gate,
    )
    return dict(line.split("  ", 1) for line in text_of(status).splitlines())


def test_what_is_out_of_reach_is_one_line() -> None:
    told = lines(GateStatus(installed=True, out_of_reach=("vsock virtio3", "serial line ttyS0")))
    assert told["out of reach"].strip() == "vsock virtio3; serial line ttyS0"


def test_where_nothing_is_out_of_reach_nothing_is_said() -> None:
    assert "out of reach" not in lines(GateStatus(installed=True))
