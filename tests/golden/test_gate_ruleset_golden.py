# SPDX-License-Identifier: Apache-2.0
"""The text that boots every VM, and what the warden puts in its place, change only on purpose.

After such a change: python -m tests.golden.test_gate_ruleset_golden
"""

from pathlib import Path

import pytest

from tests.integration.gate_policy import gate_policy, uids
from tests.integration.test_gate_services import timed_policy
from tests.unit.rules.test_rules_ruleset import draining
from vmwarden.rules import netdev_ruleset
from vmwarden.rules.ruleset import NO_MANAGE, boot_file, closed

FOLDER = Path(__file__).parent / "gate"


def texts() -> dict[str, str]:
    users = uids(["prober"])
    return {
        "boot.nft": boot_file(gate_policy(more_scopes=1), users=users),
        "drain.nft": closed(draining(), users=users),
        "layer2.nft": netdev_ruleset.table(gate_policy(more_scopes=1), users=users),
        "no_manage.nft": NO_MANAGE,
        "services.nft": closed(timed_policy("30s"), users=users),
        "services2.nft": netdev_ruleset.table(timed_policy("30s"), users=users),
    }


@pytest.mark.parametrize("name", sorted(texts()))
def test_the_closed_rules_are_the_recorded_ones(name: str) -> None:
    assert texts()[name] == (FOLDER / name).read_text()


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
