# SPDX-License-Identifier: Apache-2.0
"""Files of the state: modes, owners, links."""

import os
import stat
from pathlib import Path

import pytest

from vmwarden.errors import FileUnavailable
from vmwarden.linux.lock import exclusive
from vmwarden.model.installed import Slot, Unreadable
from vmwarden.store.cells import StateDisk, changing, present, read, read_one, strangers
from vmwarden.store.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout.below(tmp_path)
    disk = StateDisk(found)
    for slot in (Slot.OWNERS, Slot.POLICY, Slot.IDENTITY, Slot.ARMED):
        disk.put(slot, slot.value.encode())
    return found


def why(layout: Layout, slot: Slot) -> str:
    cell = read_one(layout, slot)
    assert isinstance(cell, Unreadable)
    return cell.why


def test_files_are_for_root_alone(layout: Layout) -> None:
    for path in (layout.owners, layout.path(Slot.POLICY), layout.identity):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_everything_lies_below_the_root(layout: Layout, tmp_path: Path) -> None:
    paths = [layout.path(slot) for slot in Slot]
    paths += [layout.journal, layout.control_socket, layout.watcher_socket]
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert len(set(paths)) == len(paths)
    assert Layout().state == Path("/var/lib/vmwarden")


def test_a_link_is_not_followed(layout: Layout) -> None:
    path = layout.path(Slot.POLICY)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert "symbolic link" in why(layout, Slot.POLICY)


def test_a_broken_link_is_something(layout: Layout) -> None:
    layout.armed.unlink()
    layout.armed.symlink_to("nowhere")
    assert "symbolic link" in why(layout, Slot.ARMED)
    assert Slot.ARMED in present(layout)


def test_a_folder_or_a_pipe_is_something(layout: Layout) -> None:
    layout.armed.unlink()
    layout.armed.mkdir()
    assert "not a regular file" in why(layout, Slot.ARMED)
    layout.armed.rmdir()
    os.mkfifo(layout.armed)
    assert "not a regular file" in why(layout, Slot.ARMED)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_not_trusted(layout: Layout, mode: int) -> None:
    layout.path(Slot.POLICY).chmod(mode)
    assert "others may write it" in why(layout, Slot.POLICY)


def test_a_folder_that_others_may_write_is_not_trusted(layout: Layout) -> None:
    layout.state.chmod(0o777)
    assert "others may write it" in why(layout, Slot.POLICY)
    assert read_one(layout, Slot.PENDING) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="no shared data: only root can give files away")
def test_what_belongs_to_somebody_else_is_not_trusted(layout: Layout) -> None:
    os.chown(layout.path(Slot.POLICY), 1234, -1)
    assert "belongs to user 1234" in why(layout, Slot.POLICY)


def test_a_key_that_others_may_read_is_not_trusted(layout: Layout) -> None:
    layout.identity.chmod(0o640)
    assert "others may read it" in why(layout, Slot.IDENTITY)


def test_too_much_is_not_read(layout: Layout) -> None:
    layout.path(Slot.ARMED).write_bytes(b"x" * 70_000)
    assert "more than" in why(layout, Slot.ARMED)


def test_no_folder_at_all_is_nothing(tmp_path: Path) -> None:
    assert set(read(Layout.below(tmp_path / "nowhere")).values()) == {None}


def test_a_file_in_place_of_the_folder_is_nothing(tmp_path: Path) -> None:
    layout = Layout.below(tmp_path)
    layout.state.parent.mkdir(parents=True)
    layout.state.write_bytes(b"")
    assert set(read(layout).values()) == {None}


def test_strangers_are_what_is_in_no_slot(layout: Layout) -> None:
    (layout.state / "journal.db").write_bytes(b"")
    (layout.state / ".floors.json.0011.new").write_bytes(b"")
    (layout.state / "folder").mkdir()
    assert [path.name for path in strangers(layout)] == [".floors.json.0011.new", "journal.db"]


def test_one_writer_at_a_time(layout: Layout) -> None:
    with (
        changing(layout),
        pytest.raises(FileUnavailable, match="somebody else"),
        exclusive(layout.path(Slot.LOCK), wait_s=0.0),
    ):
        pass
    with exclusive(layout.path(Slot.LOCK), wait_s=0.0):
        pass
