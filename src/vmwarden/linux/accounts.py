# SPDX-License-Identifier: Apache-2.0
"""Users of this VM."""

import pwd
from collections.abc import Iterable

from vmwarden.errors import ControlFailed


def uids(names: Iterable[str]) -> dict[str, int]:
    """The uid of each name.  Raises ControlFailed for a user that this VM does not have."""
    found = {}
    for name in names:
        try:
            found[name] = pwd.getpwnam(name).pw_uid
        except KeyError as error:
            raise ControlFailed(
                f"there is no user {name} on this VM", mend="create it, or name another in reach"
            ) from error
    return found
