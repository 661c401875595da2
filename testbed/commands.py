# SPDX-License-Identifier: Apache-2.0
"""Running programs of the host, each with a limit on its time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from testbed.failures import CommandFailed, MissingTool

# Which Debian package brings which program; the order is that of a sensible apt-get line.
PACKAGE_OF = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "setpriv": "util-linux",
    "ssh-keygen": "openssh-client",
}
_LOG_TAIL = 40  # lines of a failed program's output that its error carries
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # mke2fs lives there; an ordinary PATH may lack it


def search_path() -> str:
    """PATH with the administrator's directories at its end."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:{_SBIN}"


def missing(tools: Iterable[str]) -> list[str]:
    """The ones of ``tools`` that are not on the search path."""
    return [tool for tool in tools if shutil.which(tool, path=search_path()) is None]


def require(tools: Iterable[str]) -> None:
    """Raise `MissingTool`, naming the Debian packages, unless every tool is there."""
    absent = missing(tools)
    if absent:
        packages = " ".join(PACKAGE_OF.get(tool, tool) for tool in absent)
        raise MissingTool(f"not installed: {', '.join(absent)}; mend: apt-get install {packages}")


def run(
    argv: Sequence[str | Path], *, timeout: float, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> str:
    """Run ``argv`` to its end and return its output (stdout and stderr together).

    ``timeout`` is in seconds; ``env`` is added to the environment. Raises `CommandFailed` with the tail
    of the output when it exits non-zero or runs longer.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8", **(env or {})}
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            env=environment,
            check=False,
        )
    except FileNotFoundError as problem:
        raise MissingTool(
            f"not installed: {words[0]}; mend: {PACKAGE_OF.get(words[0], words[0])}"
        ) from problem
    except subprocess.TimeoutExpired as problem:
        said = tail((problem.output or b"").decode("utf-8", "replace"))
        raise CommandFailed(f"{words[0]} did not end within {timeout:.0f} s; it said:\n{said}") from problem
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(words)} exited {done.returncode}; it said:\n{tail(text)}")
    return text


def tail(text: str, lines: int = _LOG_TAIL) -> str:
    """The last ``lines`` lines of ``text``."""
    return "\n".join(text.splitlines()[-lines:])
