# SPDX-License-Identifier: Apache-2.0
"""Installing below a folder and undoing it leaves nothing."""

import subprocess
from pathlib import Path

from testbed.provision import REPOSITORY


def tool(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(REPOSITORY / "tools" / name), *words], capture_output=True, text=True, timeout=300, check=False
    )


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_uninstall_leaves_no_file_behind(tmp_path: Path) -> None:
    done = tool("install.sh", "--destdir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "usr/bin/vmwarden").exists()

    assert tool("uninstall.sh", "--destdir", str(tmp_path)).returncode == 0

    assert files(tmp_path) == []


def test_what_is_not_for_a_vm_is_not_installed(tmp_path: Path) -> None:
    assert tool("install.sh", "--destdir", str(tmp_path)).returncode == 0
    installed = files(tmp_path / "opt/vmwarden/lib/vmwarden")

    for room in ("owner/", "companion/", "testing/", "cli/policy.py"):
        assert not [name for name in installed if name.startswith(room)], room


def test_an_armed_vm_is_not_uninstalled(tmp_path: Path) -> None:
    armed = tmp_path / "var/lib/vmwarden/armed"
    armed.parent.mkdir(parents=True)
    armed.touch()

    done = tool("uninstall.sh", "--destdir", str(tmp_path))

    assert done.returncode == 69
    assert "purge" in done.stderr
    assert armed.exists()
