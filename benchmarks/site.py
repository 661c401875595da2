# SPDX-License-Identifier: Apache-2.0
"""A VM's folders as they are after installation and enrolment, in a temporary place, and programs there.

The programs are the installed ones: what tools/install.sh puts below a DESTDIR, with the system's Python,
-I -S, compiled files, and without the owner's desk.  Nothing here enforces: every warden runs with --observe.
"""

import getpass
import os
import re
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmwarden.linux.clock import SystemClock
from vmwarden.linux.tree import FileTree
from vmwarden.model.evidence import Subject
from vmwarden.model.policy import FlowIn, Host, HostClause, Manage, Policy, Valid
from vmwarden.rules import canonical, instant
from vmwarden.testing.owners import owners, signed_policy
from vmwarden.watcher.catalog import SOURCES

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"
#: every wait for a program has a bound, seconds
WITHIN_S = 30.0
_INSTALL_S = 300.0
_DAY_MS = 86_400_000
_ALLOWED = re.compile(rb"posture \w+: allow\b")
_VM = "bench"
#: what a local file may say of the host, the likeliest first
_LOCAL = (Subject.HYPERVISOR, Subject.PLATFORM, Subject.PRODUCT, Subject.FIRMWARE)


class Unmeasurable(Exception):
    """This machine cannot show the figure; the message says why."""


class Failed(Exception):
    """A program of ours did not do what it is measured at; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds by the wall and of CPU."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A settled warden and its watcher.  to_verdict: from the start to the allowing verdict."""

    warden: int
    watcher: int
    to_verdict: Used

    def cpu_s(self) -> float:
        """CPU seconds of both so far."""
        return cpu_s(self.warden) + cpu_s(self.watcher)


@dataclass(frozen=True, slots=True)
class Site:
    """launcher: the vmwarden command.  library: where its modules lie.  root: its files, enrolled."""

    launcher: Path
    library: Path
    root: Path

    def call(self, *arguments: str) -> Used:
        """Run vmwarden with these arguments to its end.  Raises Failed where it ends with an error."""
        return timed([str(self.launcher), *arguments])

    @contextmanager
    def guarding(self) -> Iterator[Pair]:
        """Warden and watcher, observing, from the verdict on that allows.  Both end with the block."""
        argv = [str(self.launcher), "run", "--observe", "--root", str(self.root), "--user", getpass.getuser()]
        began = time.monotonic()
        warden = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            _await_allow(warden, until=began + WITHIN_S)
            wall_s = time.monotonic() - began
            watcher = _child(warden.pid)
            yield Pair(warden.pid, watcher, Used(wall_s, cpu_s(warden.pid) + cpu_s(watcher)))
        finally:
            warden.terminate()
            try:
                warden.wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                warden.kill()
                warden.wait()
            if warden.stdout is not None:
                warden.stdout.close()


@contextmanager
def site() -> Iterator[Site]:
    """Installed and enrolled, with a confirmed policy that the evidence of this machine satisfies."""
    with tempfile.TemporaryDirectory(prefix="vmwarden-bench-") as folder:
        base = Path(folder)
        # the watcher may run as another user than root
        base.chmod(0o755)
        launcher, library = _install(base / "dest")
        made = Site(launcher, library, base / "root")
        (base / "owners.json").write_bytes(canonical.encode(owners("ada")))
        (base / "policy.json").write_bytes(signed_policy(_policy(), "ada"))
        made.call("enrol", "--root", str(made.root), "--vm", _VM, "--owners", str(base / "owners.json"))
        made.call("apply", "--root", str(made.root), str(base / "policy.json"))
        yield made


def timed(argv: Sequence[str]) -> Used:
    """Run a program to its end.  Raises Failed unless it ends with 0 within WITHIN_S."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=WITHIN_S, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{Path(argv[0]).name}: {error}") from error
    wall_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Failed(f"{Path(argv[0]).name}: status {done.returncode}: {said[-300:]}")
    return Used(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process of one thread has used (the first field of schedstat, nanoseconds)."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError as error:
        raise Unmeasurable(f"no CPU time of a process: {error.strerror}") from error


def sleeps(pid: int) -> int:
    """How often a process has gone to sleep by itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise Unmeasurable("the kernel does not count context switches")


def _install(dest: Path) -> tuple[Path, Path]:
    done = subprocess.run(
        [str(ROOT / "tools/install.sh"), "--destdir", str(dest)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_INSTALL_S,
        check=False,
    )
    if done.returncode:
        raise Unmeasurable(f"tools/install.sh: {done.stderr.decode(errors='replace').strip()[-300:]}")
    launcher, library = dest / "usr/bin/vmwarden", dest / "opt/vmwarden/lib"
    # it is not below /, so its launcher has to look elsewhere
    launcher.write_text(launcher.read_text().replace('"/opt/vmwarden/lib"', repr(str(library))))
    return launcher, library


def _policy() -> Policy:
    now = SystemClock().now()
    fact, value = _local_fact()
    return Policy(
        format="vmwarden.policy/1",
        name="bench",
        version=1,
        vms=(_VM,),
        valid=Valid(from_=instant.text(now.utc_ms - _DAY_MS), until=instant.text(now.utc_ms + 365 * _DAY_MS)),
        mode="observe",
        manage=Manage(in_=(FlowIn(from_="10.20.0.0/16", tcp=22),)),
        host=Host(all_of=(HostClause(fact=fact, equals=value),), recheck="60s"),
    )


def _local_fact() -> tuple[str, str]:
    now = SystemClock().now()
    with FileTree(Path("/"), live=True) as tree:
        said = {
            piece.subject: piece.value
            for source in SOURCES
            for piece in source.read(tree, now)
            if isinstance(piece.value, str) and piece.value and not piece.unavailable
        }
    for subject in _LOCAL:
        value = said.get(subject)
        if isinstance(value, str):
            return str(subject), value
    raise Unmeasurable("no local file of this machine says anything about its host")


def _await_allow(warden: subprocess.Popen[bytes], *, until: float) -> None:
    """Until it prints the verdict.  The line is printed in the step in which the verdict is settled."""
    if warden.stdout is None:
        raise Failed("no output to read")
    descriptor, said = warden.stdout.fileno(), b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not _ALLOWED.search(said):
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Failed(f"no verdict that allows within {WITHIN_S:g} s: {said[-300:]!r}")
        data = os.read(descriptor, 65536)
        if not data:
            raise Failed(f"the warden ended: {said[-300:]!r}")
        said += data


def _child(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    except (OSError, IndexError) as error:
        raise Failed("the warden has no watcher") from error
