# SPDX-License-Identifier: Apache-2.0
"""linux.files: what a file may be, and that a write is whole."""

import os
import socket
from pathlib import Path

import pytest

from vmwarden.errors import FileAbsent, FileUnavailable, Malformed, TooLarge
from vmwarden.linux.files import owned_privately, read_bounded, write_atomically


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"one")
    write_atomically(path, b"x" * 200_000)
    assert read_bounded(path, 200_000) == b"x" * 200_000
    assert [p.name for p in tmp_path.iterdir()] == ["state"]  # no temporary file stays


def test_mode_is_exact_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_atomically(tmp_path / "a", b"", mode=0o644)
    finally:
        os.umask(old)
    write_atomically(tmp_path / "b", b"")
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "b").stat().st_mode & 0o7777 == 0o600


def test_a_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = tmp_path / "state"
    path.symlink_to(victim)
    write_atomically(path, b"new")
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_refused_write_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    with pytest.raises(FileUnavailable, match="cannot write"):
        write_atomically(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    with pytest.raises(FileAbsent):
        write_atomically(tmp_path / "no" / "folder", b"")


def test_the_bound_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(TooLarge):
        read_bounded(path, 4)
    path.write_bytes(b"")
    assert read_bounded(path, 0) == b""


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileAbsent):
        read_bounded(tmp_path / "f", 5)
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(FileAbsent):
        read_bounded(tmp_path / "f" / "g", 5)


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe", "socket", "device"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    if kind == "link":
        (tmp_path / "g").write_bytes(b"x")
        path.symlink_to(tmp_path / "g")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "g")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        path = Path("/dev/zero")
    with pytest.raises(Malformed):
        read_bounded(path, 5)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "secret", "good"),
    [
        (0o600, 0o700, True, True),
        (0o644, 0o755, False, True),
        (0o644, 0o755, True, False),
        (0o620, 0o700, False, False),
        (0o602, 0o700, False, False),
        (0o600, 0o770, False, False),
        (0o600, 0o777, False, False),
        (0o600, 0o1777, True, True),
    ],
)
def test_owned_privately(tmp_path: Path, file_mode: int, folder_mode: int, secret: bool, good: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "f"
    path.write_bytes(b"x")
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    if good:
        owned_privately(path, secret=secret)
        assert read_bounded(path, 1, private=True) == b"x"
    else:
        with pytest.raises(Malformed) as caught:
            owned_privately(path, secret=secret)
        assert caught.value.problems[0].mend.startswith("chmod")
        if not secret:
            with pytest.raises(Malformed):
                read_bounded(path, 1, private=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    os.chown(path, 12345, 0)
    with pytest.raises(Malformed, match="belongs to user 12345"):
        owned_privately(path)
    os.chown(path, 0, 0)
    os.chown(tmp_path, 12345, 0)
    with pytest.raises(Malformed, match="belongs to user 12345"):
        owned_privately(path)
