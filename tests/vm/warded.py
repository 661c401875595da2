# SPDX-License-Identifier: Apache-2.0
"""One owner, one trusted host, one guarded VM, for the tests of a session; each test gets its own clone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from testbed.image import Image
from testbed.provision import POLICY, Desk
from testbed.snapshot import Snapshot
from testbed.warded import ITEM, Warded, host_key, save_warded
from vmwarden.model.statement import Audience
from vmwarden.rules.statement_carrier import to_item
from vmwarden.testing.host import Behaviour, HostSimulator

ME = Audience(vm="payments-1", generation=1)
LEASE_S = 2.0
RECHECK_S = 9.0
#: the version that the VM begins with: there is room for an older one
VERSION = 2
#: asked every three seconds; unknown closes as soon as the evidence is too old
QUICK = f"  unknown: [{{after: 0s, posture: held}}]\ngate: {{lease: {LEASE_S:.0f}s}}\n"


class WardedVm:
    """Makes snapshots by need and clones of them."""

    def __init__(self, image: Image, directory: Path) -> None:
        self._image = image
        self._directory = directory
        self._snapshots: dict[str, Snapshot] = {}
        self._channels = 0
        self.desk = Desk(directory / "desk")

    def policy(self, *, version: int = VERSION, proof: str = "fresh", place: str = "DE") -> Path:
        """A signed policy like the one in force.  place: that country, and nothing else of it."""
        words: dict[str, Any] = {
            "version": version,
            "proof": proof,
            "recheck": f"{RECHECK_S:.0f}s",
            "place_more": QUICK,
        }
        if place == "DE":
            return self.desk.policy(**words)
        host = self.desk.hosts[0]
        text = re.sub(r"country: DE, .*\]", f"country: {place}", POLICY)
        return self.desk.policy(
            version=version,
            text=text.format(
                name="payments",
                vm=self.desk.vm,
                mode="enforce",
                hosts=f'    - {{name: {host}, key: "{self.desk.public_line(host)}"}}',
                **words,
            ),
        )

    def clone(self, *, static: str | None = None, **words: Any) -> Warded:
        """A running VM.  static: a statement in its fw_cfg; then the policy is content with `signed`.
        words: see `testbed.warded.Warded`."""
        self._channels += 1
        if static is not None:
            words["fw_cfg"] = {ITEM: to_item(static)}
        return Warded(self._snapshot("fresh" if static is None else "signed"), self._channel(), **words)

    def host(self, *, offset_s: int = 0, path: Path | None = None, **words: Any) -> HostSimulator:
        """The trusted host, at the newest clone's channel, or at that one."""
        return HostSimulator(
            path or self._channel(), key=host_key(self.desk), listen=False, clock_offset_s=offset_s, **words
        )

    def static(self, audience: Audience = ME, **words: Any) -> str:
        """A static statement by the trusted host."""
        return HostSimulator(self._channel(), key=host_key(self.desk)).static(audience, **words)

    def _channel(self) -> Path:
        return self._directory / f"{self._channels}.sock"

    def _snapshot(self, proof: str) -> Snapshot:
        if proof not in self._snapshots:
            layer = self.desk.layer(self.policy(proof=proof), self._directory / f"{proof}.squashfs")
            # of the same size as all that clones will have there, and good for nothing
            other = self.static(Audience(vm="another-vm", generation=1))
            self._snapshots[proof] = save_warded(
                self._image,
                layer,
                self._directory / proof,
                fw_cfg={ITEM: to_item(other)} if proof == "signed" else {},
            )
        return self._snapshots[proof]


__all__ = [
    "LEASE_S",
    "ME",
    "QUICK",
    "RECHECK_S",
    "VERSION",
    "Behaviour",
    "HostSimulator",
    "Warded",
    "WardedVm",
]
