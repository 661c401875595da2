# SPDX-License-Identifier: Apache-2.0
"""Runs another program: fixed arguments, no shell, a clean environment, bounded time and output."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vmwarden.errors import CommandFailed

#: bound on each of standard output and standard error, bytes; a listing of our own tables is below 64 kB
OUTPUT_BYTES = 1 << 20
#: nothing of the caller's environment reaches a child: LD_PRELOAD, locale and proxies stay out
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended after so many milliseconds.  returncode: negative = killed by that signal."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    milliseconds: int


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    input: bytes = b"",
    check: bool = True,
    limit: int = OUTPUT_BYTES,
) -> Completed:
    """Run argv to its end, in "/", in a session of its own, with input on standard input.

    Raises CommandFailed: it could not be started, ran longer than timeout_s seconds, wrote more than limit
    bytes on one stream, or (with check) ended with another status than 0.  In the first three cases it and
    its process group are dead when this returns.
    """
    started = time.monotonic()
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{argv[0]}: cannot be started: {error.strerror}", mend="install it") from error
    with child:
        try:
            stdout, stderr = _converse(child, argv[0], input, limit, deadline=started + timeout_s)
            child.wait(max(0.0, started + timeout_s - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            _kill(child)
            raise CommandFailed(f"{argv[0]}: still running after {timeout_s:g} s, killed") from error
        except BaseException:
            _kill(child)
            raise
    done = Completed(tuple(argv), child.returncode, stdout, stderr, int((time.monotonic() - started) * 1000))
    if check and done.returncode != 0:
        said = (stderr or stdout).decode(errors="replace").strip()
        raise CommandFailed(f"{argv[0]}: status {done.returncode}: {said[:2000]}")
    return done


def _converse(
    child: subprocess.Popen[bytes], name: str, input: bytes, limit: int, *, deadline: float
) -> tuple[bytes, bytes]:
    """Feed standard input and gather both outputs until the child has closed them."""
    gathered = {pipe.fileno(): bytearray() for pipe in (child.stdout, child.stderr) if pipe is not None}
    left = memoryview(input)
    with selectors.DefaultSelector() as selector:
        for descriptor in gathered:
            selector.register(descriptor, selectors.EVENT_READ)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin.fileno(), selectors.EVENT_WRITE)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise subprocess.TimeoutExpired(child.args, 0)
            for key, _ in selector.select(remaining):
                if key.fd in gathered:
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                    gathered[key.fd] += chunk
                    if len(gathered[key.fd]) > limit:
                        raise CommandFailed(f"{name}: wrote more than {limit} bytes, killed")
                elif child.stdin is not None:
                    left = _feed(key.fd, left)
                    if not left:
                        selector.unregister(key.fd)
                        child.stdin.close()
    stdout, stderr = gathered.values()
    return bytes(stdout), bytes(stderr)


def _feed(descriptor: int, left: memoryview) -> memoryview:
    """What is still to be written; empty when the child reads no more."""
    try:
        return left[os.write(descriptor, left[:65536]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]


def _kill(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself in the meantime
    child.wait()
