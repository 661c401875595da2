# SPDX-License-Identifier: Apache-2.0
"""Starting the watcher: open what needs privileges, then give them up."""

import os
from pathlib import Path

from vmwarden.linux.clock import SystemClock
from vmwarden.linux.privileges import die_with_parent, drop_to
from vmwarden.linux.tree import FileTree
from vmwarden.watcher.catalog import ROOT_ONLY, SOURCES
from vmwarden.watcher.program import Watcher
from vmwarden.watcher.ways import ways


def serve(warden: Path, *, user: str, with_parent: bool) -> None:
    """Be the watcher of the warden behind that socket until SIGTERM.  Raises UsageError, WorldError."""
    parent = os.getppid()
    tree = FileTree(Path("/"), live=True)
    tree.keep(ROOT_ONLY)
    open_ways = ways(tree)
    for way in open_ways:
        way.keep()
    drop_to(user)
    if with_parent:
        die_with_parent(parent)
    Watcher(warden=warden, sources=SOURCES, tree=tree, ways=open_ways, clock=SystemClock()).run()
