# SPDX-License-Identifier: Apache-2.0
"""store.journal on a disk that is really full: a tmpfs of 4 MiB in a mount namespace of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

PROGRAM = """
import json, os, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vmwarden.errors import JournalFull
from vmwarden.model.moment import Moment
from vmwarden.store import journal_reader
from vmwarden.store.journal import open_journal

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOW = Moment(boot_ms=5, utc_ms=1_790_000_000_000, boot_id="b")
path = Path("journal.db")
told = {}

def opened():
    return open_journal(path, signer=KEY, vm="web-1", now=NOW)

def fill():
    with open("filler", "ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

def until_refused(journal):
    count = 0
    try:
        while count < 3000:
            journal.append("event", {"detail": "x" * 500}, NOW)
            count += 1
    except JournalFull as error:
        told["refusal"] = str(error)
    return count

def kinds():
    contents = journal_reader.read(path)
    return [json.loads(row.data)["kind"] for row in contents.records]

SCENES = {}

def scene(function):
    SCENES[function.__name__] = function

@scene
def full_while_open():
    journal, findings = opened()
    told["room before"] = journal.room()
    for _ in range(10):
        journal.append("event", {}, NOW)
    fill()
    told["room when full"] = journal.room()
    told["written from the reserve"] = until_refused(journal)
    told["reserve left"] = Path("journal.db.reserve").exists()
    told["kinds"] = sorted(set(kinds()))
    told["full said"] = kinds().count("journal.full")
    size = journal.head()[0]
    told["verified"] = journal_reader.verify(path)[0].size == size
    os.unlink("filler")
    told["room again"] = journal.room()
    told["reserve again"] = Path("journal.db.reserve").exists()
    told["goes on"] = journal.append("event", {}, NOW).seq == size
    told["verified again"] = journal_reader.verify(path)[0].size == size + 1

@scene
def full_at_boot():
    if os.fork() == 0:
        journal, _ = opened()
        for _ in range(10):
            journal.append("event", {}, NOW)
        os._exit(0)  # dies: nothing is closed, records stand in the WAL alone
    os.wait()
    told["wal"] = os.stat("journal.db-wal").st_size
    os.unlink("journal.db-shm")
    fill()
    if sys.argv[2:] == ["and the reserve is gone"]:
        os.unlink("journal.db.reserve")
        fill()
    again, findings = opened()
    told["findings"] = [one.id for one in findings]
    told["aside"] = [one.name for one in Path(".").glob("*aside*")]
    told["room"] = again.room()
    count = until_refused(again)
    told["written"] = count
    told["full said"] = kinds().count("journal.full") if count else 0
    os.unlink("filler")
    again.append("event", {}, NOW)
    told["goes on"] = again.head()[0] == 11 + count + told["full said"] + 1
    told["findings after"] = [one.id for one in again.findings]

@scene
def full_from_the_first():
    fill()
    journal, findings = opened()
    told["findings"] = [one.id for one in findings]
    told["room"] = journal.room()
    told["written"] = until_refused(journal)
    os.unlink("filler")
    told["seq"] = journal.append("event", {}, NOW).seq
    told["kinds"] = kinds()
    told["room after"] = journal.room()

@scene
def damaged_and_full():
    journal, _ = opened()
    journal.append("event", {}, NOW)
    journal.close()
    path.write_bytes(b"damaged")
    Path("journal.db.reserve").unlink()
    fill()
    again, findings = opened()
    told["findings"] = [one.id for one in findings]
    told["kept"] = Path("journal.db.aside-1").read_bytes() == b"damaged"
    os.unlink("filler")
    told["seq"] = again.append("event", {}, NOW).seq
    told["kinds"] = kinds()

@scene
def read_only():
    journal, _ = opened()
    journal.append("event", {}, NOW)
    journal.close()
    os.system("mount -o remount,ro .")
    told["verified"] = journal_reader.verify(path)[0].size
    again, findings = opened()
    told["findings"] = [one.id for one in findings]
    told["room"] = again.room()
    told["written"] = until_refused(again)
    os.system("mount -o remount,rw .")
    told["goes on"] = again.append("event", {}, NOW).seq
    told["aside"] = [one.name for one in Path(".").glob("*aside*")]

SCENES[sys.argv[1]]()
print(json.dumps(told))
"""


def play(scene: str, tmp_path: Path, *options: str) -> dict[str, Any]:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    mount = 'mount --make-rprivate / && mount -t tmpfs -o size=4m,mode=0700 tmpfs "$1"'
    script = mount + ' && cd "$1" && shift && exec "$@"'
    program = [sys.executable, str(tmp_path / "program.py"), scene, *options]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), *program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_full_while_open(tmp_path: Path) -> None:
    told = play("full_while_open", tmp_path)
    assert told["room before"]
    assert not told["room when full"]
    assert told["written from the reserve"] >= 20  # the closings that have to be written
    assert not told["reserve left"]
    assert told["full said"] == 1
    assert told["kinds"] == ["event", "journal.full", "journal.started"]
    assert "journal.db" in told["refusal"]
    assert told["verified"]
    assert told["room again"]
    assert told["reserve again"]
    assert told["goes on"]
    assert told["verified again"]


def test_full_at_boot_gives_up_the_reserve(tmp_path: Path) -> None:
    told = play("full_at_boot", tmp_path)
    assert told["wal"] > 0
    assert told["findings"] == []
    assert told["aside"] == []
    assert not told["room"]
    assert told["written"] >= 20
    assert told["full said"] == 1
    assert told["goes on"]


def test_full_at_boot_is_not_taken_for_damage(tmp_path: Path) -> None:
    told = play("full_at_boot", tmp_path, "and the reserve is gone")
    assert told["wal"] > 0
    assert told["findings"] == ["journal.full"]
    assert told["aside"] == []
    assert not told["room"]
    assert told["written"] == 0
    assert told["goes on"]
    assert told["findings after"] == []


def test_full_from_the_first(tmp_path: Path) -> None:
    told = play("full_from_the_first", tmp_path)
    assert told["findings"] == ["journal.full"]
    assert not told["room"]
    assert told["written"] == 0
    assert told["seq"] == 1
    assert told["kinds"] == ["journal.started", "event"]
    assert told["room after"]


def test_damaged_and_full(tmp_path: Path) -> None:
    told = play("damaged_and_full", tmp_path)
    assert told["findings"] == ["journal.corrupt", "journal.full"]
    assert told["kept"]
    assert told["seq"] == 1
    assert told["kinds"] == ["journal.corrupt", "event"]


def test_read_only(tmp_path: Path) -> None:
    told = play("read_only", tmp_path)
    assert told["verified"] == 2
    assert told["findings"] == ["journal.full"]
    assert not told["room"]
    assert told["written"] == 0
    assert told["goes on"] == 2
    assert told["aside"] == []
