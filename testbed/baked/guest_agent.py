# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: executes what the host asks over a virtio serial port, one JSON object a line.

Request  {"id": 1, "op": "sh", "cmd": "nft list ruleset", "timeout": 30}
Answer   {"id": 1, "rc": 0, "out": "...", "seconds": 0.2}   or   {"id": 1, "error": "...", "kind": "timeout"}

Every request runs in a thread of its own, and a command that overstays is killed and, if it cannot be
killed (a process in uninterruptible sleep on a suspended disk), abandoned: the next request is answered.
"""

# Importing pathlib would cost each boot a quarter of a second under TCG.
# ruff: noqa: PTH101, PTH103, PTH104, PTH120, PTH208
from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, TextIO, cast

PORT = "org.vmwarden.testbed"
OUTPUT_LIMIT = 4 << 20  # bytes of a command's output that are sent back: its end counts
LOGS = "/run/testbed"

Answer = dict[str, Any]


class Overstayed(Exception):
    """A command ran longer than it was allowed; carries what it had said."""


class Stdout:
    """sys.stdout for code of the host: what a thread prints is kept for that thread's answer."""

    def __init__(self, real: TextIO) -> None:
        self.real = real
        self.local = threading.local()

    def write(self, text: str) -> int:
        kept = getattr(self.local, "kept", None)
        if kept is None:
            return self.real.write(text)
        kept.append(text)
        return len(text)

    def flush(self) -> None:
        self.real.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def find_port() -> str:
    """Path of the serial port's device; waits until it is there."""
    base = "/sys/class/virtio-ports"
    while True:
        try:
            for port in os.listdir(base):
                with open(f"{base}/{port}/name") as file:
                    if file.read().strip() == PORT:
                        return "/dev/" + port
        except OSError:
            pass
        time.sleep(0.02)


class Agent:
    """Answers requests on the port: ``do_NAME`` is operation NAME, its parameters the request's fields."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lock = threading.Lock()
        self.stdout = Stdout(sys.stdout)
        sys.stdout = cast(TextIO, self.stdout)
        self.names: dict[str, Any] = {"__name__": "testbed_py"}  # what py() calls share with each other
        self.background: dict[int, subprocess.Popen[bytes]] = {}
        self.counter = 0

    def send(self, answer: Answer) -> None:
        data = (json.dumps(answer) + "\n").encode()
        with self.lock:
            while data:
                data = data[os.write(self.fd, data) :]

    def serve(self) -> None:
        """Read requests for ever; each is answered by a thread of its own."""
        buffer = b""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while True:
            ready = poller.poll(1000)
            if not ready:
                continue
            if not ready[0][1] & select.POLLIN:  # nobody listens on the host's side just now
                time.sleep(0.02)
                continue
            data = os.read(self.fd, 1 << 16)
            if not data:
                time.sleep(0.02)
                continue
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.strip():
                    threading.Thread(target=self.answer, args=(line,), daemon=True).start()

    def answer(self, line: bytes) -> None:
        """Do what one line asks and send the outcome, whatever it is."""
        started = time.monotonic()
        number = None
        try:
            request = json.loads(line)
            number = request.pop("id")
            operation = request.pop("op")
            result = getattr(self, "do_" + operation)(**request)
        except Overstayed as late:
            result = {"error": str(late), "kind": "timeout"}
        except BaseException:  # noqa: BLE001  whatever it is, the host gets it
            result = {"error": traceback.format_exc(), "kind": "error"}
        result["id"] = number
        result["seconds"] = round(time.monotonic() - started, 4)
        self.send(result)

    def do_ping(self) -> Answer:
        with open("/proc/uptime") as file:
            return {"uptime": float(file.read().split()[0])}

    def do_sh(self, cmd: str, timeout: float) -> Answer:
        # Not a pipe: a daemon that the command leaves behind would hold it open.
        out = os.memfd_create("out")
        try:
            child = subprocess.Popen(
                ["/bin/sh", "-c", cmd],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
            )
            try:
                rc = child.wait(timeout)
            except subprocess.TimeoutExpired:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait(1)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    pass
                raise Overstayed(f"still running after {timeout} s; it had said:\n{said(out)}") from None
            return {"rc": rc, "out": said(out)}
        finally:
            os.close(out)

    def do_py(self, code: str, timeout: float) -> Answer:
        done = threading.Event()
        outcome: Answer = {}
        kept: list[str] = []

        def work() -> None:
            self.stdout.local.kept = kept
            try:
                exec(compile(code, "<py>", "exec"), self.names)
            except BaseException:  # noqa: BLE001  sys.exit() in there must not end the agent
                outcome["error"] = "".join(kept) + traceback.format_exc()
                outcome["kind"] = "error"
            finally:
                self.stdout.local.kept = None
                done.set()

        threading.Thread(target=work, daemon=True).start()
        if not done.wait(timeout):
            raise Overstayed(f"still running after {timeout} s; it had said:\n{''.join(kept)}")
        return outcome or {"rc": 0, "out": "".join(kept)}

    def do_spawn(self, cmd: str) -> Answer:
        os.makedirs(LOGS, exist_ok=True)
        with self.lock:
            self.counter += 1
            log = f"{LOGS}/spawn-{os.getpid()}-{self.counter}.log"
        with open(log, "wb") as file:
            child = subprocess.Popen(
                ["/bin/sh", "-c", cmd],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        self.background[child.pid] = child
        threading.Thread(target=child.wait, daemon=True).start()
        return {"pid": child.pid, "log": log}

    def do_poll(self, pid: int) -> Answer:
        child = self.background.get(pid)
        if child is None:
            raise LookupError(f"process {pid} was not started by spawn() of this agent")
        return {"rc": child.poll()}

    def do_put(self, path: str, data: str, mode: int, first: bool, last: bool) -> Answer:
        if first:
            os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        unfinished = path + ".testbed-part"
        with open(unfinished, "wb" if first else "ab") as file:
            file.write(base64.b64decode(data))
        if last:
            os.chmod(unfinished, mode)
            os.rename(unfinished, path)
        return {}

    def do_get(self, path: str, offset: int, size: int) -> Answer:
        with open(path, "rb") as file:
            file.seek(offset)
            return {"data": base64.b64encode(file.read(size)).decode()}


def said(fd: int) -> str:
    """The end of what was written to the file ``fd``."""
    size = os.fstat(fd).st_size
    return os.pread(fd, OUTPUT_LIMIT, max(0, size - OUTPUT_LIMIT)).decode("utf-8", "replace")


if __name__ == "__main__":
    Agent(os.open(find_port(), os.O_RDWR | os.O_CLOEXEC)).serve()
