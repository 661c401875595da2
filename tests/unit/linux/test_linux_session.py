# SPDX-License-Identifier: Apache-2.0
"""Who is logged in how, from recorded process tables."""

import os
from pathlib import Path

import pytest

from vmwarden.linux.session import current
from vmwarden.model.installed import Session

CONNECTION = "10.20.0.9 40000 10.20.0.2 22"
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """init 1, sshd 800 and its child 900, a login shell 901 on pts/0, sudo 950, its monitor 951 on pts/1
    with a session of its own, vmwarden 952; a console login 700 with the shell 701."""
    for pid, parent, session, terminal, start, environ in (
        (1, 0, 1, 0, 1, ""),
        (700, 1, 700, 1088, 300, ""),
        (701, 700, 700, 1088, 310, "TERM=linux"),
        (702, 701, 700, 1088, 400, "TERM=linux"),
        (800, 1, 800, 0, 200, ""),
        (900, 800, 900, 0, 500, ""),
        (901, 900, 901, 34816, 510, f"TERM=xterm\0SSH_CONNECTION={CONNECTION}"),
        (950, 901, 901, 34816, 600, f"SSH_CONNECTION={CONNECTION}"),
        (951, 950, 951, 34817, 601, "SUDO_UID=1000"),
        (952, 951, 951, 34817, 602, "SUDO_UID=1000"),
        (990, 1, 990, 0, 700, ""),
    ):
        folder = tmp_path / str(pid)
        folder.mkdir()
        words = [parent, pid, session, terminal, *[0] * 14, start * TICKS, 0]
        (folder / "stat").write_text(f"{pid} (a) b (c)) S " + " ".join(map(str, words)) + "\n")
        (folder / "environ").write_text(environ + "\0")
    return tmp_path


def test_ssh_shows_through_sudo(proc: Path) -> None:
    found = current(proc=proc, pid=952)
    assert found.ssh == CONNECTION
    assert found.terminals == (f"951:{601 * TICKS}", f"901:{510 * TICKS}")
    assert found.opened_boot_ms == 510_000


def test_the_console_is_its_terminal_session(proc: Path) -> None:
    assert current(proc=proc, pid=702) == Session(terminals=(f"700:{300 * TICKS}",), opened_boot_ms=300_000)


def test_two_logins_share_nothing(proc: Path) -> None:
    one, two = current(proc=proc, pid=952), current(proc=proc, pid=702)
    assert not set(one.terminals) & set(two.terminals)


def test_a_service_has_no_session(proc: Path) -> None:
    assert current(proc=proc, pid=990) == Session()


def test_a_login_is_no_older_than_its_shell(proc: Path) -> None:
    # sshd itself runs since boot: it must not make every connection old
    assert current(proc=proc, pid=901).opened_boot_ms == 510_000


@pytest.mark.parametrize(
    "stat", ["", "952", "952 (x) S 1", "952 (x) S a b c d e f g h i j k l m n o p q r s t"]
)
def test_a_process_table_that_lies_is_survived(proc: Path, stat: str) -> None:
    (proc / "951" / "stat").write_text(stat)
    assert current(proc=proc, pid=952).ssh == ""
    (proc / "951" / "stat").write_text("951 (x) S 952 951 951 0 " + "0 " * 30)
    assert current(proc=proc, pid=952).ssh == ""
    assert current(proc=proc, pid=4_000) == Session()
    assert current(proc=proc / "nowhere", pid=1) == Session()


def test_the_running_process_can_be_asked() -> None:
    assert isinstance(current(), Session)
