# SPDX-License-Identifier: Apache-2.0
import os
import stat
from pathlib import Path

import pytest

from vmwarden.errors import SourceUnavailable
from vmwarden.linux.tree import FileTree


@pytest.fixture(params=[True, False], ids=["openat2", "walk"])
def openat2(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"outside")
    root = tmp_path / "root"
    (root / "sys/class").mkdir(parents=True)
    (root / "sys/class/vendor").write_bytes(b"QEMU\n")
    return root


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refusal(tree: FileTree, path: str, limit: int = 65536) -> str:
    with pytest.raises(SourceUnavailable) as caught:
        tree.read(path, limit)
    return str(caught.value)


def test_a_file_and_a_folder(root: Path, openat2: bool) -> None:
    with FileTree(root, live=False, openat2=openat2) as tree:
        assert tree.read("/sys/class/vendor") == b"QEMU\n"
        assert tree.list("/sys/class") == ("vendor",)
        assert tree.list("/") == ("sys",)
        assert tree.live is False


def test_absent_and_relative_and_nul(root: Path, openat2: bool) -> None:
    with FileTree(root, live=False, openat2=openat2) as tree:
        assert "No such file" in refusal(tree, "/sys/absent")
        assert "absolute" in refusal(tree, "sys/class/vendor")
        assert "absolute" in refusal(tree, "/sys/class/vendor\0")
        assert "long" in refusal(tree, "/" + "x" * 5000)
        with pytest.raises(SourceUnavailable):
            tree.list("/sys/class/vendor")


@pytest.mark.parametrize(
    "target", ["{outside}", "../../secret", "../../../../../../../../{outside}", "/proc/self/root{outside}"]
)
def test_no_link_leads_outside(root: Path, openat2: bool, target: str) -> None:
    outside = str(root.parent / "secret")
    (root / "sys/link").symlink_to(target.format(outside=outside))
    with FileTree(root, live=False, openat2=openat2) as tree:
        refusal(tree, "/sys/link")


def test_no_dots_lead_outside(root: Path, openat2: bool) -> None:
    with FileTree(root, live=False, openat2=openat2) as tree:
        refusal(tree, "/../secret")
        refusal(tree, "/sys/../../secret")


def test_a_linked_folder_does_not_lead_outside(root: Path, openat2: bool) -> None:
    (root / "up").symlink_to(root.parent)
    with FileTree(root, live=False, openat2=openat2) as tree:
        refusal(tree, "/up/secret")


def test_links_inside_are_followed_inside(root: Path) -> None:
    (root / "relative").symlink_to("sys/class")
    (root / "absolute").symlink_to("/sys/class/vendor")
    with FileTree(root, live=False) as tree:
        assert tree.read("/relative/vendor") == b"QEMU\n"
        assert tree.read("/absolute") == b"QEMU\n"


def test_without_openat2_links_are_refused_altogether(root: Path) -> None:
    (root / "relative").symlink_to("sys/class")
    with FileTree(root, live=False, openat2=False) as tree:
        refusal(tree, "/relative/vendor")


def test_magic_links_are_not_followed() -> None:
    with FileTree(Path("/"), live=True) as tree:
        refusal(tree, "/proc/self/exe")
        assert tree.read("/proc/self/comm")


def test_a_link_tells_where_it_points_without_going_there(root: Path, openat2: bool) -> None:
    (root / "out").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    with FileTree(root, live=False, openat2=openat2) as tree:
        assert tree.link("/out") == "/usr/share/zoneinfo/Europe/Berlin"
        for path in ("/sys/class/vendor", "/sys", "/absent"):
            with pytest.raises(SourceUnavailable):
                tree.link(path)


def test_loops_end(root: Path, openat2: bool) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with FileTree(root, live=False, openat2=openat2) as tree:
        refusal(tree, "/a")


@pytest.mark.timeout(5)
def test_what_is_no_regular_file_is_not_opened(root: Path, openat2: bool) -> None:
    os.mkfifo(root / "pipe")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    with FileTree(root, live=False, openat2=openat2) as tree:
        assert "a pipe" in refusal(tree, "/pipe")
        assert "a socket" in refusal(tree, "/socket")
        assert "a folder" in refusal(tree, "/sys")


def test_a_device_is_not_opened() -> None:
    with FileTree(Path("/"), live=True) as tree:
        assert "a device" in refusal(tree, "/dev/zero")


def test_more_than_the_limit_is_refused_without_reading_it(root: Path, openat2: bool) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with FileTree(root, live=False, openat2=openat2) as tree:
        assert "more than 100 bytes" in refusal(tree, "/huge", 100)
        assert tree.read("/sys/class/vendor", 5) == b"QEMU\n"
        assert "more than 4 bytes" in refusal(tree, "/sys/class/vendor", 4)


def test_a_folder_with_too_many_names_is_refused(root: Path) -> None:
    for n in range(4097):
        (root / "sys/class" / str(n)).touch()
    with FileTree(root, live=False) as tree, pytest.raises(SourceUnavailable, match="4096"):
        tree.list("/sys/class")


def test_kept_files_are_read_anew_through_the_old_descriptor(root: Path) -> None:
    file = root / "sys/class/vendor"
    with FileTree(root, live=True) as tree:
        assert tree.keep(["/sys/class/vendor", "/sys/absent"]) == ("/sys/class/vendor",)
        file.write_bytes(b"changed")
        assert tree.read("/sys/class/vendor") == b"changed"
        file.unlink()
        assert tree.read("/sys/class/vendor") == b"changed"
        assert "more than 3 bytes" in refusal(tree, "/sys/class/vendor", 3)


def test_a_closed_tree_says_so(root: Path) -> None:
    tree = FileTree(root, live=False)
    tree.keep(["/sys/class/vendor"])
    tree.close()
    tree.close()
    assert "closed" in refusal(tree, "/sys/class/vendor")


def test_a_root_that_is_not_there() -> None:
    with pytest.raises(SourceUnavailable):
        FileTree(Path("/does/not/exist"), live=False)


def test_nothing_stays_open(root: Path) -> None:
    before = open_descriptors()
    with FileTree(root, live=False) as tree:
        tree.keep(["/sys/class/vendor"])
        for _ in range(3):
            tree.read("/sys/class/vendor")
            tree.list("/sys")
            refusal(tree, "/sys")
    assert open_descriptors() == before
