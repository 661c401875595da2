# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: units stay in their room, and CI does not skip for want of a tool."""

import datetime
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: reasons for a skip that CI accepts: data that is not part of the checkout, devices that a kernel has not
ACCEPTED = ("no shared data", "this kernel has no such device")

#: rooms whose tests may not reach the world
CLOSED_ROOMS = ("unit", "property", "golden")

#: names the page that `make soak` writes
SOAK_PAGE = "VMWARDEN_SOAK_PAGE"

_inside = False
_skipped: list[str] = []
_soaked: list[pytest.TestReport] = []


class ReachedOut(BaseException):
    """A test of a closed room started a process or opened a socket.

    Not an Exception: code under test must not be able to swallow it.
    """


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _inside:
        return
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec", "socket.connect"):
        raise ReachedOut(f"{event}{arguments!r}: a unit test starts no process and connects to nothing")
    if event == "socket.__new__" and arguments[1] != 1:  # AF_UNIX: a socket file is a hostile file, too
        raise ReachedOut(f"{event}{arguments!r}: a unit test opens no network socket")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def _closed_room(request: pytest.FixtureRequest) -> Iterator[None]:
    global _inside
    room = request.path.relative_to(Path(__file__).parent).parts[0]
    _inside = room in CLOSED_ROOMS
    try:
        yield
    finally:
        _inside = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _soaked.append(report)
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(accepted in reason for accepted in ACCEPTED):
            _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") == "true" and _skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    page = os.environ.get(SOAK_PAGE)
    if page:
        Path(page).write_text(_soak_page())


def _soak_page() -> str:
    """What every long test said, with the command: figures for docs/, never typed by hand."""
    machine = (
        f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs (shared)"
    )
    parts = [
        "# Soak\n\nWritten by `make soak`; counts are in the names of the tests, seeds in their files.\n"
        f"{machine}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}.\n"
    ]
    for report in _soaked:
        said = report.capstdout.strip()
        parts.append(
            f"## {report.nodeid}\n\n{report.outcome} in {report.duration:.0f} s\n"
            + (f"\n```\n{said}\n```\n" if said else "")
        )
    return "\n".join(parts)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if os.environ.get("CI") == "true" and _skipped:
        terminalreporter.section("skipped, and CI=true does not accept it")
        for line in _skipped:
            terminalreporter.line(line)
