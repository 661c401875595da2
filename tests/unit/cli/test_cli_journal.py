# SPDX-License-Identifier: Apache-2.0
"""The commands journal show, verify, export, checkpoint, as they are typed."""

import json
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.cli.main import main
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.installed import Slot
from vmwarden.model.moment import Moment
from vmwarden.rules import canonical, checkpoint
from vmwarden.store.journal import open_journal
from vmwarden.store.layout import Layout

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
LINE = checkpoint.key_line(KEY.public_key())
HOSTILE = "\x1b[2J\x1b]0;pwned\x07\n2026-01-01T00:00:00Z  9  fake\tline\u202e"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root in which vm web-1 kept a journal of eight records."""
    layout = Layout.below(tmp_path)
    layout.state.mkdir(parents=True)
    layout.path(Slot.ENROLMENT).write_bytes(canonical.encode(Enrolment(vm="web-1", key=LINE)))
    journal, _ = open_journal(layout.journal, signer=KEY, vm="web-1", now=Moment(boot_ms=0, utc_ms=0))

    def said(kind: str, body: dict[str, object], second: int) -> None:
        journal.append(kind, body, Moment(boot_ms=second, utc_ms=1_795_000_000_000 + 1000 * second))

    said("warden.started", {"observe_only": False}, 1)
    said("event", {"event": "link", "detail": HOSTILE}, 2)
    findings = [
        {
            "id": "place.country.mismatch",
            "answer": "deny",
            "expected": "DE",
            "found": "FR",
            "source": "r-7",
        },
        {"id": "host.hypervisor.match", "answer": "allow"},
        {"id": "statement.expired", "answer": "unknown"},
    ]
    said(
        "decision.changed",
        {"posture": "held", "answer": "deny", "mode": "enforce", "findings": findings},
        3,
    )
    said("posture.intent", {"posture": "open"}, 4)
    said("posture.taken", {"posture": "open"}, 5)
    said("posture.intent", {"posture": "held"}, 6)
    said("event", {"event": "long", "detail": "x" * 5000}, 7)
    journal.checkpoint(Moment(boot_ms=8, utc_ms=0))
    journal.close()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main([str(one) for one in argv])
    out, err = capsys.readouterr()
    return code, out, err


def seqs(text: str) -> list[int]:
    return [int(line.split("  ")[1]) for line in text.splitlines()]


def test_show_is_one_line_a_record(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "journal", "show", "--root", root)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert seqs(out) == list(range(8))
    assert lines[3] == (
        "2026-11-18T11:06:43Z  3  decision.changed  held, deny, enforce: place.country.mismatch "
        "(expected DE, found FR, says r-7); statement.expired"
    )
    assert lines[4] == "2026-11-18T11:06:44Z  4  posture.intent  posture=open"
    assert len(lines[7]) < 260


def test_what_strangers_wrote_does_nothing_to_the_terminal(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "journal", "show", "--root", root, "--kind", "event")
    assert len(out.splitlines()) == 2
    assert all(c == "\n" or c.isprintable() for c in out)
    assert r"\x1b[2J" in out
    assert r"\x0a2026" in out


def test_show_chooses(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def chosen(*options: object) -> list[int]:
        code, out, _ = run(capsys, "journal", "show", "--root", root, *options)
        assert code == 0
        return seqs(out)

    assert chosen("--limit", 2) == [6, 7]
    assert chosen("--since", 3, "--limit", 2) == [3, 4]
    assert chosen("--since", 99) == []
    assert chosen("--kind", "posture.*") == [4, 5, 6]
    assert chosen("--kind", "posture.intent", "--limit", 1) == [6]
    assert chosen("--kind", "posture") == []
    assert chosen("--limit", 0) == []


def test_show_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "journal", "show", "--root", root, "--json", "--since", 2, "--limit", 1)
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == "vmwarden.journal-records/1"
    assert document["records"][0]["body"]["detail"] == HOSTILE


def test_show_goes_back_into_sealed_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.db"
    now = Moment(boot_ms=0, utc_ms=0)
    journal, _ = open_journal(path, signer=KEY, vm="web-1", now=now, segment_bytes=300_000)
    while journal.head()[0] < 200:
        journal.append("event", {"detail": "x" * 3000}, now)

    def shown(*options: object) -> list[int]:
        return seqs(run(capsys, "journal", "show", "--journal", path, *options)[1])

    assert shown("--since", 0, "--limit", 300) == list(range(200))
    assert shown("--since", 60, "--limit", 30) == list(range(60, 90))
    assert shown("--limit", 120) == list(range(80, 200))
    assert len(shown("--kind", "journal.rotated", "--limit", 9)) >= 2
    journal.close()


def test_show_prints_what_can_be_read_of_a_damaged_journal(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = sqlite3.connect(Layout.below(root).journal, isolation_level=None)
    db.execute("UPDATE record SET bytes = x'7b7d' WHERE seq = 4")
    db.close()
    code, out, err = run(capsys, "journal", "show", "--root", root)
    assert code == 65
    assert len(out.splitlines()) == 8
    assert out.splitlines()[4] == "NOT READABLE  record 4: its bytes do not have its hash"
    assert "journal verify" in err
    code, out, err = run(capsys, "journal", "verify", "--root", root)
    assert code == 65
    assert "record 4" in err


def test_verify_asks_for_the_key_of_the_enrolment(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "journal", "verify", "--root", root)
    assert code == 0
    assert "records 0 to 7 of vmwarden/web-1/journal" in out
    assert "this VM's enrolment" in out
    assert "cut off there would not show" in out
    layout = Layout.below(root)
    stranger = Enrolment(vm="web-1", key=checkpoint.key_line(OTHER.public_key()))
    layout.path(Slot.ENROLMENT).write_bytes(canonical.encode(stranger))
    code, _, err = run(capsys, "journal", "verify", "--root", root)
    assert code == 65
    assert "another key" in err
    code, out, _ = run(capsys, "journal", "verify", layout.journal)
    assert code == 0
    assert "as the file itself says" in out


def test_export_and_checkpoint_are_verified_elsewhere(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, note, key = tmp_path / "export.jsonl", tmp_path / "note", tmp_path / "key.pub"
    assert run(capsys, "journal", "export", "--root", root, "-o", export) == (0, "", "")
    code, text, _ = run(capsys, "journal", "checkpoint", "--root", root)
    assert code == 0
    note.write_text(text)
    key.write_text(LINE + " root@web-1\n")
    verifier = checkpoint.verifier_key(checkpoint.origin("web-1"), KEY.public_key())
    for given in (key, LINE, verifier):
        code, out, _ = run(capsys, "journal", "verify", export, "--key", given, "--against", note, "--json")
        assert code == 0
        document = json.loads(out)
        assert (document["size"], document["key_from"], document["verifier_key"]) == (8, "argument", verifier)
    other = checkpoint.key_line(OTHER.public_key())
    assert run(capsys, "journal", "verify", export, "--key", other)[0] == 65
    lines = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join(lines[:-1]))
    assert run(capsys, "journal", "verify", export)[0] == 65
    # cut back to a kept checkpoint: whole by itself, and seen against the note
    first_kept = next(n for n, one in enumerate(lines) if b'"type":"checkpoint"' in one)
    export.write_bytes(b"".join(lines[: first_kept + 1]))
    assert run(capsys, "journal", "verify", export)[0] == 0
    code, _, err = run(capsys, "journal", "verify", export, "--against", note)
    assert code == 65
    assert "cut back" in err


def test_export_prints(root: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["journal", "export", "--root", str(root)]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert json.loads(lines[0])["type"] == "base"
    assert [json.loads(one)["record"]["seq"] for one in lines if b'"type":"record"' in one] == list(range(8))


def test_what_is_not_there_and_what_is_not_asked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("show", "verify", "export", "checkpoint"):
        code, out, err = run(capsys, "journal", verb, "--journal", tmp_path / "none.db")
        assert (code, out) == (69, "")
        assert "none.db" in err
    for argv in (
        ("journal",),
        ("journal", "burn"),
        ("journal", "show", "--since", "-1"),
        ("journal", "show", "--limit", "many"),
        ("journal", "verify", "a", "--journal", "b"),
    ):
        assert run(capsys, *argv)[0] == 64
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff\xfe")
    assert run(capsys, "journal", "verify", "--root", root, "--against", bad)[0] == 65
    assert run(capsys, "journal", "verify", "--root", root, "--key", bad)[0] == 65
    bad.write_bytes(b"{}")
    assert run(capsys, "journal", "verify", bad)[0] == 65
    code, out, _ = run(capsys, "journal", "verify", bad, "--json")
    assert json.loads(out)["errors"][0]["message"]
