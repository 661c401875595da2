# SPDX-License-Identifier: Apache-2.0
"""The text that boots every VM changes only on purpose.

After such a change: python -m tests.golden.test_gate_ruleset_golden
"""

from pathlib import Path

import pytest

from tests.integration.gate_policy import gate_policy, uids
from vmwarden.rules.ruleset import NO_MANAGE, closed

FOLDER = Path(__file__).parent / "gate"


def texts() -> dict[str, str]:
    return {
        "closed.nft": closed(gate_policy(more_scopes=1), users=uids(["prober"])),
        "no_manage.nft": NO_MANAGE,
    }


@pytest.mark.parametrize("name", sorted(texts()))
def test_the_closed_rules_are_the_recorded_ones(name: str) -> None:
    assert texts()[name] == (FOLDER / name).read_text()


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
