# SPDX-License-Identifier: Apache-2.0
"""The clocks."""

from typing import Protocol

from vmwarden.model.moment import Moment


class Clock(Protocol):
    """Where a Moment comes from."""

    def now(self) -> Moment: ...
