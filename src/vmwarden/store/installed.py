# SPDX-License-Identifier: Apache-2.0
"""What the disk says is in force."""

from vmwarden.model.installed import Installed
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.rules.delivery import settle
from vmwarden.rules.installation import judge
from vmwarden.store import cells
from vmwarden.store.layout import Layout


def load(layout: Layout, now: Moment) -> Installed:
    """The outcome for whatever lies on disk.  Never raises, writes nothing.

    The state is judged as it will be when it is settled: a trial that is over counts as reverted even
    while the disk takes no writes.
    """
    settled = settle(cells.read(layout), now, closed_rules=_unwritten)
    return judge(settled.cells)


def _unwritten(policy: Policy) -> str:
    """Nothing of this plan is carried out: that there would be rules is all that counts."""
    return f"# of {policy.name}"
