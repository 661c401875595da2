# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the test bed, as exceptions whose text names the mend."""

from __future__ import annotations


class BedError(Exception):
    """Anything that the test bed itself could not do; never a verdict about vmwarden."""


class MissingTool(BedError):
    """A program of the host is not installed."""


class CommandFailed(BedError):
    """A program of the host ended badly or ran out of time."""


class MachineFailed(BedError):
    """QEMU did not start, ended early, or did not answer."""


class GuestError(BedError):
    """A call into the guest failed: a traceback in there, or a command that was required to succeed."""


class GuestTimeout(GuestError):
    """The guest, or a command in it, did not answer in time."""
