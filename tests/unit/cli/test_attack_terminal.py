# SPDX-License-Identifier: Apache-2.0
"""What strangers wrote must not move the reader's cursor, and a reader that went away is no verdict."""

import contextlib
import io
from pathlib import Path

import pytest

from vmwarden.cli import daemon
from vmwarden.cli.main import main
from vmwarden.model.control import Status
from vmwarden.model.decision import Decision
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer

ESCAPES = '{"\\u001b[2J\\u009b31m\\u202e":1,"format":"vmwarden.policy/1"}'


def test_errors_about_a_strangers_file_are_printable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(ESCAPES)
    code = main(["policy", "show", str(file)])
    said = capsys.readouterr().err

    assert code == 65
    assert "unknown field" in said
    assert all(line.isprintable() for line in said.splitlines())


class Gone(io.StringIO):
    """A standard output whose reader went away."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_a_reader_that_went_away_is_no_allow(tmp_path: Path) -> None:
    with contextlib.redirect_stdout(Gone()):
        assert main(["evidence", "--root", str(tmp_path)]) not in (0, 3, 4)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_the_warden_speaks_on_every_console(encoding: str) -> None:
    raw = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(raw, encoding=encoding, errors="strict")) as console:
        daemon.say("host \u6771\u4eac \x1b[2J \ud800")

    assert raw.getvalue().startswith(b"vmwarden: host ")
    assert b"\x1b" not in raw.getvalue()
    console.close()


def test_a_console_that_is_gone_does_not_stop_the_warden() -> None:
    with contextlib.redirect_stdout(Gone()):
        daemon.say("posture open: allow")


def status(posture: Posture, answer: Answer, mode: str = "enforce") -> Status:
    return Status(
        schema="vmwarden.status/1",
        vm="payments-1",
        tier=0,
        mode="enforce" if mode == "enforce" else "observe",
        armed=True,
        enrolled=True,
        posture=posture,
        posture_since="",
        settled=True,
        last_verified="",
        decision=Decision(posture=Posture.OPEN, answer=answer),
    )


@pytest.mark.parametrize(
    ("posture", "answer", "mode", "code"),
    [
        (Posture.OPEN, Answer.ALLOW, "enforce", 0),
        (Posture.HELD, Answer.ALLOW, "enforce", 4),
        (Posture.HELD, Answer.DENY, "enforce", 3),
        (Posture.HELD, Answer.ALLOW, "observe", 0),
        (Posture.HELD, Answer.DENY, "observe", 0),
    ],
)
def test_a_boot_is_right_only_if_the_vm_is_open(
    posture: Posture, answer: Answer, mode: str, code: int
) -> None:
    assert daemon.boot_exit(status(posture, answer, mode)) == code
