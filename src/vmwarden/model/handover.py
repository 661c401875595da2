# SPDX-License-Identifier: Apache-2.0
"""What a warden leaves to the program that takes its place in the same process (exec): a new version of
itself."""

from typing import Annotated, Literal

from msgspec import Meta

from vmwarden.model.posture import Posture
from vmwarden.model.wire import Count, Wire

#: bound on the canonical bytes; a VM with 200 uplinks needs 60 kB
HANDOVER_BYTES = 1 << 18

#: of an open file of the process
Descriptor = Annotated[int, Meta(ge=3, le=2**31 - 1)]


class SecondLayerHandover(Wire, frozen=True, kw_only=True):
    """fingerprint: names the rules.  made: digest of each chain.  attached: (index, name, bus) of uplinks."""

    fingerprint: str
    made: dict[str, str]
    attached: tuple[tuple[int, str, str], ...] = ()


class GateHandover(Wire, frozen=True, kw_only=True):
    """connection: the socket that owns the permit and its lease.  keeper: the one that owns the closed rules.

    fingerprint: names the rules.  rules, permit: digests of the two tables.  form: names what the permit is
    made of.  cut: (index, name) of the uplinks that were switched off.
    """

    connection: Descriptor
    keeper: Descriptor | None
    fingerprint: str
    rules: str
    permit: str
    form: str
    second: SecondLayerHandover | None = None
    cut: tuple[tuple[int, str], ...] = ()


class Handover(Wire, frozen=True, kw_only=True):
    """boot_id: of the boot that this is for.

    posture: that was taken.  lease_until_boot_ms: CLOCK_BOOTTIME at which the lease that was handed over
    ends; 0 = none.  gate: None = nothing is enforced.
    """

    format: Literal["vmwarden.handover/1"]
    boot_id: str
    posture: Posture
    lease_until_boot_ms: Count = 0
    gate: GateHandover | None = None
