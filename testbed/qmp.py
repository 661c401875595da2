# SPDX-License-Identifier: Apache-2.0
"""QEMU's machine protocol: JSON objects over a unix socket, one command at a time."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

from testbed.failures import MachineFailed

_CHUNK = 1 << 16


class Qmp:
    """A connection to one QEMU. Commands may come from any thread; they wait for each other."""

    def __init__(self, path: Path, timeout: float) -> None:
        """Connect and leave the negotiation mode; QEMU must be listening on ``path`` already."""
        self.events: list[dict[str, Any]] = []
        """Events seen so far (they are read while a command waits for its answer), oldest first."""
        self._lock = threading.Lock()
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._read(time.monotonic() + timeout)
            self.execute("qmp_capabilities", timeout=timeout)
        except BaseException:
            self._socket.close()
            raise

    def execute(self, command: str, timeout: float = 30.0, **arguments: Any) -> Any:
        """Run ``command`` and return what it returns. Raises `MachineFailed` on refusal, end or silence.

        Keyword arguments are QMP's; write ``_`` for ``-`` in their names.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        message = {"execute": command, **({"arguments": named} if named else {})}
        deadline = time.monotonic() + timeout
        with self._lock:
            try:
                self._socket.settimeout(timeout)
                self._socket.sendall(json.dumps(message).encode() + b"\n")
                while True:
                    answer = self._read(deadline)
                    if "event" in answer:
                        self.events.append(answer)
                        continue
                    break
            except OSError as problem:
                raise MachineFailed(f"QMP {command}: {problem or type(problem).__name__}") from problem
        if "error" in answer:
            raise MachineFailed(f"QMP {command} was refused: {answer['error'].get('desc')}")
        return answer["return"]

    def monitor(self, command: str, timeout: float = 30.0) -> str:
        """Run a command of the human monitor and return what it prints."""
        return str(self.execute("human-monitor-command", timeout=timeout, command_line=command))

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._socket.close()

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionError("QEMU closed the connection")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer
