# SPDX-License-Identifier: Apache-2.0
"""vmwarden evidence and companion, called as the command line calls them."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from vmwarden.cli.main import main
from vmwarden.rules import statement_carrier
from vmwarden.watcher.catalog import SOURCES

DATA = Path(__file__).parents[1] / "data" / "sources"
KEYS = ["id", "subject", "value", "source", "proof", "issued_at", "observed_at", "valid_until"]

_events: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and event in ("open", "socket.__new__", "subprocess.Popen", "os.fork", "os.exec"):
        _events.append(f"{event} {arguments[0]}")


sys.addaudithook(_audit)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, text = run(capsys, *arguments, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(text)
    return found


def test_evidence_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "evidence")
    assert found["schema"] == "vmwarden.evidence/1"
    assert found["platform"]
    assert found["platform_because"]
    assert {piece["source"] for piece in found["evidence"]} == {source.name for source in SOURCES}
    for piece in found["evidence"]:
        assert list(piece)[:8] == KEYS
        assert (piece["value"] is None) == ("unavailable" in piece)


def test_evidence_of_a_recorded_tree_touches_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    global _events
    root = DATA / "platform" / "root"
    document(capsys, "evidence", "--root", str(root))  # imports happen here
    _events = []
    try:
        found = document(capsys, "evidence", "--root", str(root))
        seen = _events
    finally:
        _events = None
    assert [event for event in seen if event.split()[1] != str(root)] == []
    assert found["platform"] == "azure"
    live = {piece["subject"] for piece in found["evidence"] if "live" in piece.get("unavailable", "")}
    assert live == {"clock.utc", "clock.rtc_offset"}


def test_a_recording_gives_the_same_evidence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = str(DATA / "dmi" / "root")
    before = document(capsys, "evidence", "--root", root)
    recorded = document(capsys, "evidence", "--root", root, "--record", str(tmp_path / "copy"))
    after = document(capsys, "evidence", "--root", str(tmp_path / "copy"))

    def told(found: dict[str, Any]) -> list[Any]:
        return [(p["id"], p["value"], p.get("unavailable")) for p in found["evidence"]]

    assert told(before) == told(recorded) == told(after)
    assert "/sys/class/dmi/id/product_serial" in recorded["recorded"]["identifying"]
    copied = {
        "/" + str(path.relative_to(tmp_path / "copy"))
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file()
    }
    assert copied == set(recorded["recorded"]["files"])
    code, text = run(capsys, "evidence", "--root", root, "--record", str(tmp_path / "again"))
    assert code == 0
    assert "look before you pass them on" in text
    assert main(["evidence", "--record", str(tmp_path / "copy")]) == 64
    assert main(["evidence", "--root", str(tmp_path / "absent")]) == 69


def test_a_host_makes_a_key_and_signs_for_every_carrier(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = tmp_path / "host.key"
    made = document(capsys, "companion", "keygen", "-o", str(key))
    assert made["key"].startswith("ssh-ed25519 ")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert main(["companion", "keygen", "-o", str(key)]) == 64
    facts = tmp_path / "facts.json"
    facts.write_text('{"city":"Frankfurt am Main","postal_code":"60311","host_id":"from-file"}')
    common = ["companion", "statement", "--key", str(key), "--vm", "web-1", "--facts", str(facts)]
    common += [
        "--country",
        "DE",
        "--time-zone",
        "Europe/Berlin",
        "--host-id",
        "h-1",
        "--label",
        "c5=2027-01-01",
    ]
    signed = document(capsys, *common, "--generation", "2", "--valid-for", "90m")
    said = signed["statement"]
    assert (said["country"], said["city"], said["host_id"]) == ("DE", "Frankfurt am Main", "h-1")
    assert (said["aud"], said["exp"] - said["iat"]) == ({"vm": "web-1", "generation": 2}, 5400)
    assert said["compliance"] == [{"name": "c5", "until": 1798761600}]
    assert "nonce" not in said
    code, text = run(capsys, *common, "--format", "smbios")
    assert code == 0
    (token,) = statement_carrier.from_strings(line.encode() for line in text.splitlines())
    assert token.count(".") == 2
    item = tmp_path / "item"
    assert main([*common, "--format", "fw_cfg", "-o", str(item)]) == 0
    assert len(item.read_bytes()) == statement_carrier.ITEM_BYTES
    assert statement_carrier.from_item(item.read_bytes()).count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--vm", "web-1", "--country", "Germany"], 65),
        (["--vm", "Web 1"], 65),
        (["--vm", "web-1", "--label", "c5"], 64),
        (["--vm", "web-1", "--label", "c5=soon"], 65),
        (["--vm", "web-1", "--valid-for", "soon"], 65),
        (["--vm", "web-1", "--generation", "0"], 65),
        (["--vm", "web-1", "--facts", "/does/not/exist"], 69),
    ],
)
def test_bad_options_of_a_statement(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], code: int
) -> None:
    key = tmp_path / "key"
    assert main(["companion", "keygen", "-o", str(key)]) == 0
    assert main(["companion", "statement", "--key", str(key), "--host-id", "h", *arguments]) == code


def test_a_key_that_others_may_read_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert main(["companion", "keygen", "-o", str(key)]) == 0
    key.chmod(0o644)
    assert main(["companion", "statement", "--key", str(key), "--vm", "web-1", "--host-id", "h"]) == 65


def test_serve_needs_a_socket_for_each_vm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert main(["companion", "keygen", "-o", str(key)]) == 0
    for arguments in (["--vm", "a"], ["--vm", "a", "--vm", "b", "--socket", "/x"], ["--vm", "=/x"]):
        assert main(["companion", "serve", "--key", str(key), *arguments]) == 64
    assert main(["companion", "serve", "--key", str(key), "--vm", "a=/x", "--socket-mode", "9"]) == 64
