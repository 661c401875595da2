# SPDX-License-Identifier: Apache-2.0
"""Starting the watcher: open what needs privileges, then give them up."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vmwarden.linux.clock import SystemClock
from vmwarden.linux.landlock import confine, unconfined
from vmwarden.linux.privileges import die_with_parent, drop_to
from vmwarden.linux.sockets import has_internet
from vmwarden.linux.tree import FileTree
from vmwarden.ports.channel import Way
from vmwarden.watcher.catalog import READ, ROOT_ONLY, SOURCES
from vmwarden.watcher.program import Watcher
from vmwarden.watcher.ways import ways

#: channels are devices that may come later; which of them the user may open says their mode
_DEVICES = ("/dev",)


def serve(warden: Path, *, user: str, with_parent: bool, say: Callable[[str], None]) -> None:
    """Be the watcher of the warden behind that socket until SIGTERM.  Raises UsageError, WorldError."""
    parent = os.getppid()
    clock = SystemClock()
    tree = FileTree(Path("/"), live=True)
    open_ways = ways(tree)
    say(f"the watcher is {shut_in(tree, open_ways, user=user)}")
    if with_parent:
        die_with_parent(parent)
    Watcher(warden=warden, sources=SOURCES, tree=tree, ways=open_ways, clock=clock).run()


def shut_in(tree: FileTree, open_ways: Sequence[Way], *, user: str) -> str:
    """Take hold of what only root may open, then give up all that looking does not need.

    Returns how far that goes on this kernel, in words.  Raises UsageError, WorldError.
    """
    tree.keep(ROOT_ONLY)
    for way in open_ways:
        way.keep()
    drop_to(user)
    version = confine(read=(*READ, *_own_code()), read_write=_DEVICES, connect=has_internet())
    if not version:
        return "not confined by Landlock, which this kernel does not have or does not let it use"
    left = ", ".join(unconfined(version))
    return f"confined by Landlock {version}" + (f" (which leaves {left})" if left else "")


def _own_code() -> tuple[str, ...]:
    """Modules that are imported when they are first needed, and the lines of a traceback."""
    ours = Path(__file__).parents[1]
    return (str(ours), *(path for path in sys.path if Path(path).is_absolute()))
