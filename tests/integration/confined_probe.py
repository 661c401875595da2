# SPDX-License-Identifier: Apache-2.0
"""A captured watcher, as a program: shut in as the watcher is, it tries what it must not be able to do.

    python3 confined_probe.py '{"confine": true, "user": "nobody", "tries": ["shadow", ...], ...}'

Prints {"name": "done"} or {"name": "refused: why"} for each try.  With "confine": false the same tries as
whoever it is: what is refused there proves nothing.  It needs only the standard library and vmwarden.
"""

import ctypes
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
#: linux/ptrace.h, linux/sched.h, asm/unistd.h (x86-64), linux/mount.h
_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT = 17, 0x4206, 0x4207
_CLONE_NEWUSER, _MS_NODEV = 0x1000_0000, 4
_SYS_IO_URING_SETUP, _SYS_FINIT_MODULE, _SYS_BPF = 425, 313, 321


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _create(path: Path) -> None:
    with path.open("xb") as file:
        file.write(b"x")
    path.unlink()


def _connect(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)


def _socket(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def _bind() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _write_and_execute() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def _trace(pid: int) -> None:
    """Seize, stop, and let go again."""
    for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
        _checked(_libc.ptrace(request, pid, None, None))
    os.waitpid(pid, 0x4000_0000)  # __WALL
    _checked(_libc.ptrace(_PTRACE_DETACH, pid, None, None))


def _mount(folder: str) -> None:
    _checked(_libc.mount(b"none", folder.encode(), b"tmpfs", _MS_NODEV, None))
    _checked(_libc.umount(folder.encode()))


def _load(module: str) -> None:
    with open(module, "rb") as file:
        if _libc.syscall(_SYS_FINIT_MODULE, file.fileno(), b"", 0) < 0 and ctypes.get_errno() != 17:  # EEXIST
            _checked(-1)


def _ring() -> None:
    parameters = ctypes.create_string_buffer(256)
    ring = _libc.syscall(_SYS_IO_URING_SETUP, 1, parameters)
    _checked(ring)
    os.close(ring)


def _map() -> None:
    """BPF_MAP_CREATE of an array of one."""
    attributes = (ctypes.c_uint32 * 32)(2, 4, 4, 1)
    made = _libc.syscall(_SYS_BPF, 0, ctypes.byref(attributes), 128)
    _checked(made)
    os.close(made)


def _settime() -> None:
    import time

    time.clock_settime(time.CLOCK_REALTIME, time.time())


def tries(given: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """By name; given: what the caller prepared."""
    return {
        "shadow": lambda: Path("/etc/shadow").read_bytes(),
        "secret": lambda: Path(given["secret"]).read_bytes(),
        "environment": lambda: Path(f"/proc/{given['warden']}/environ").read_bytes(),
        "disk": lambda: Path(given["disk"]).open("rb").close(),
        "create": lambda: _create(Path(given["folder"]) / "probe"),
        "temporary": lambda: _create(Path("/tmp/vmwarden-probe")),
        "overwrite": lambda: Path(given["writable"]).open("r+b").close(),
        "control": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, given["control"]),
        "bus": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, given["bus"]),
        "abstract": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + given["abstract"]),
        "ptrace": lambda: _trace(given["warden"]),
        "signal": lambda: os.kill(given["warden"], 0),
        "fork": _fork,
        "code": _write_and_execute,
        "memfd": lambda: os.close(os.memfd_create("probe")),
        "bind": _bind,
        "connect": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", given["port"])),
        "elsewhere": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, (given["address"], given["port"])),
        "udp": lambda: _socket(socket.AF_INET, socket.SOCK_DGRAM),
        "packet": lambda: _socket(socket.AF_PACKET, socket.SOCK_RAW),
        "netlink": lambda: _socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "vsock": lambda: _socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "mount": lambda: _mount(given["folder"]),
        "module": lambda: _load(given["module"]),
        "root": lambda: os.setuid(0),
        "namespace": lambda: _checked(_libc.unshare(_CLONE_NEWUSER)),
        "io_uring": _ring,
        "bpf": _map,
        "clock": _settime,
        # the last one: if it is done, /bin/echo says so and this program is no more
        "exec": lambda: os.execv("/bin/echo", ["echo", '{"exec": "done"}']),
    }


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.path[:0] = given.get("path", [])
    if given["confine"]:
        from vmwarden.linux.tree import FileTree
        from vmwarden.watcher.start import shut_in

        tree = FileTree(Path("/"), live=True)
        shut_in(tree, (), user=given["user"])
        # the probe is no weaker than the watcher: it still sees what the watcher looks at
        tree.read("/proc/cmdline")
    known = tries(given)
    for name in given["tries"]:
        sys.stdout.flush()
        try:
            known[name]()
            said = "done"
        except OSError as error:
            said = f"refused: {error.strerror}"
        print(json.dumps({name: said}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
