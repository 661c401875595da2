# SPDX-License-Identifier: Apache-2.0
"""Flows without a kernel."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network

from vmwarden.errors import ControlFailed
from vmwarden.model.flow import Flow, Progress
from vmwarden.model.policy import Policy
from vmwarden.rules.kept_flows import Network, keeper

#: what the real one ends in a millisecond, in round numbers
A_MILLISECOND = 100


class FakeFlows:
    """Behaves as ports.flows.Flows; tests/contract holds it to the real one.

    alive: the flows that there are; add to it as you like.  acts: ("begin", policy, version), ("go_on", ms).
    failing: set it, and begin and go_on raise ControlFailed with that text until it is "" again.
    """

    def __init__(
        self,
        alive: Iterable[Flow] = (),
        *,
        uid: int = 1000,
        own: Iterable[Network] = (IPv4Network("192.0.2.1/32"),),
    ) -> None:
        """uid: stands for every user that a policy names.  own: what is local to the VM."""
        self.alive = list(alive)
        self.acts: list[tuple[str | int | float, ...]] = []
        self.failing = ""
        self._uid = uid
        self._own = tuple(own)
        self._kept: Callable[[Flow], bool] | None = None
        self._progress = Progress(done=True)

    def begin(self, policy: Policy) -> None:
        self._act("begin", policy.name, policy.version)
        self._kept = keeper(policy, users={reach.as_: self._uid for reach in policy.reach}, own=self._own)
        self._progress = Progress()

    def go_on(self, within_ms: float) -> Progress:
        self._act("go_on", within_ms)
        kept = self._kept
        if kept is None or within_ms <= 0:
            return self._progress
        doomed = [flow for flow in self.alive if not kept(flow)]
        ending = doomed[: max(1, int(within_ms * A_MILLISECOND))]
        self.alive = [flow for flow in self.alive if flow not in ending]
        done = len(ending) == len(doomed)
        self._progress = Progress(
            ended=self._progress.ended + len(ending),
            kept=len(self.alive) - (len(doomed) - len(ending)),
            done=done,
        )
        if done:
            self._kept = None
        return self._progress

    def ends(self) -> str:
        return f"nothing: {self.failing}" if self.failing else "TCP and UDP"

    def _act(self, *act: str | int | float) -> None:
        if self.failing:
            raise ControlFailed(self.failing)
        self.acts.append(act)
