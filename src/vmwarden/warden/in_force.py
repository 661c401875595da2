# SPDX-License-Identifier: Apache-2.0
"""What the disk says is in force."""

from typing import Literal

import msgspec

from vmwarden.model.policy import Policy
from vmwarden.model.statement import Audience
from vmwarden.model.verdict import Finding


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """mode enforce without a policy means armed and nothing readable: closed except manage.

    findings: what the owner should know about the policy itself (expiry, refusal).
    """

    mode: Literal["observe", "enforce"] = "observe"
    policy: Policy | None = None
    audience: Audience = Audience(vm="unenrolled", generation=1)
    enrolled: bool = False
    armed: bool = False
    pending: bool = False
    findings: tuple[Finding, ...] = ()
