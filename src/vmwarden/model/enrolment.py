# SPDX-License-Identifier: Apache-2.0
"""This VM's identity."""

from typing import Annotated

from msgspec import Meta

from vmwarden.model.policy import Name
from vmwarden.model.wire import Wire


class Enrolment(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.enrolment/1"):
    """Made at enrolment, stripped by image prepare.

    vm: the name under which the owner knows this VM; policies and statements are addressed to it.
    generation: which life of that name this is; a clone that may live gets the next one.
    key: OpenSSH public key line of the identity made on this VM; it signs journal checkpoints.
    """

    vm: Name
    generation: Annotated[int, Meta(ge=1, le=2**31)] = 1
    key: str
