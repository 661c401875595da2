# SPDX-License-Identifier: Apache-2.0
"""A process that guards both layers of the gate as the warden does: python -m tests.integration.gate_guardian
LEASE lasting|plain

LEASE: milliseconds, 0 = it holds the gate closed.  plain: as on a kernel where others may delete our tables.
Prints "standing" once it holds the gate, then a line for each time it had to put the rules back.  It wakes
and acts as vmwarden.warden.loop and gatekeeper do: what the kernel tells, then a repair and a renewal.
"""

import select
import sys

from tests.integration.gate_policy import gate_policy, uids
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.errors import ControlFailed

_TICK_MS = 1_000


class Guardian:
    def __init__(self, lease_ms: int, *, lasting: bool) -> None:
        second = SecondLayer(uids, stands_in=lambda link: link.name == "eth0")
        self._gate = NftGate(uids, second=second, lasting_tables=lasting)
        self._policy = gate_policy()
        self._lease_ms = lease_ms

    def begin(self) -> None:
        self._gate.install(self._policy)
        self._renew()
        print("standing", flush=True)

    def step(self) -> None:
        """One round of the loop: at most a second."""
        poll = select.poll()
        for fileno in self._gate.filenos():
            poll.register(fileno, select.POLLIN)
        if poll.poll(min(_TICK_MS, self._lease_ms // 3 or _TICK_MS)) and self._touched():
            self._repair()
        self._repair()
        self._renew()

    def _touched(self) -> bool:
        try:
            return self._gate.heard().touched
        except ControlFailed:
            return True

    def _repair(self) -> None:
        try:
            if self._gate.installed():
                return
        except ControlFailed as error:
            print(f"not read: {error}", flush=True)
        try:
            self._gate.install(self._policy)
        except ControlFailed as error:
            print(f"failed: {error}", flush=True)
        else:
            print("repaired", flush=True)

    def _renew(self) -> None:
        if not self._lease_ms:
            return
        try:
            self._gate.lease(self._lease_ms)
        except ControlFailed as error:
            print(f"not leased: {error}", flush=True)
        self._touched_since_renewal()

    def _touched_since_renewal(self) -> None:
        """What the renewal itself made the kernel tell must not wake us again."""
        if self._touched():
            self._repair()


def main() -> None:
    guardian = Guardian(int(sys.argv[1]), lasting=sys.argv[2] == "lasting")
    guardian.begin()
    while True:
        guardian.step()


if __name__ == "__main__":
    main()
