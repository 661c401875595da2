# SPDX-License-Identifier: Apache-2.0
"""A child of ours that runs beside us."""

import subprocess
import sys
from collections.abc import Sequence

from vmwarden.errors import CommandFailed


class Child:
    """A vmwarden program started by another one.  Standard output and error are inherited."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Start "vmwarden ARGUMENTS" with this interpreter.  Raises CommandFailed."""
        # -I: neither the environment nor the current folder chooses the child's modules.  -S where we run so
        isolation = ["-I", "-S"] if sys.flags.no_site else ["-I"]
        argv = [sys.executable, *isolation, sys.argv[0], *arguments]
        try:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, close_fds=True)
        except OSError as error:
            raise CommandFailed(f"cannot start {arguments[0]}: {error.strerror}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """The exit status once it has ended, None while it runs."""
        return self._process.poll()

    def stop(self, *, timeout_s: float = 2.0) -> None:
        """SIGTERM, then SIGKILL after the timeout; returns when it is gone."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
