# SPDX-License-Identifier: Apache-2.0
"""Starting the watcher: open what needs privileges, then give them up."""

from pathlib import Path

from vmwarden.linux.clock import SystemClock
from vmwarden.linux.privileges import die_with_parent, drop_to
from vmwarden.linux.tree import FileTree
from vmwarden.watcher.catalog import PRIVILEGED, SOURCES, WAYS
from vmwarden.watcher.program import Watcher


def serve(warden: Path, *, user: str, with_parent: bool) -> None:
    """Be the watcher of the warden behind that socket until SIGTERM.  Raises UsageError, WorldError."""
    if with_parent:
        die_with_parent()
    tree = FileTree(Path("/"), live=True)
    tree.keep(PRIVILEGED)
    watcher = Watcher(warden=warden, sources=SOURCES, tree=tree, ways=WAYS, clock=SystemClock())
    watcher.open_ways()
    drop_to(user)
    watcher.run()
