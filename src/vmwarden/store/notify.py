# SPDX-License-Identifier: Apache-2.0
"""Telling the running warden that the state changed."""

from vmwarden.errors import WorldError
from vmwarden.linux.control_client import ask
from vmwarden.model.control import Request
from vmwarden.rules import canonical
from vmwarden.store.layout import Layout

#: a reload takes milliseconds; a warden that hangs is the watchdog's to restart, and reads anew then
_ANSWER_S = 5.0


def notify_warden(layout: Layout) -> bool:
    """Ask it to read the state again.  False if none runs or it does not answer: it reads it at start."""
    try:
        ask(layout.control_socket, canonical.encode(Request(request="reload")), timeout_s=_ANSWER_S)
    except WorldError:
        return False
    return True
