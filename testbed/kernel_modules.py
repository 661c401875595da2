# SPDX-License-Identifier: Apache-2.0
"""Finding kernel modules and what they need, from the tables that depmod wrote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from testbed.failures import BedError


def load_order(tree: Path, wanted: Iterable[str]) -> list[PurePosixPath]:
    """Files to insmod, in order, so that every module of ``wanted`` is loaded.

    ``tree`` is a ``lib/modules/RELEASE`` directory with ``modules.dep`` and ``modules.builtin``; the
    result is relative to it. What the kernel has built in needs nothing; a name known nowhere raises
    `BedError`.
    """
    needs: dict[PurePosixPath, list[PurePosixPath]] = {}
    by_name: dict[str, PurePosixPath] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        path = PurePosixPath(file)
        # depmod lists all that a module needs, the direct ones first: load it from the far end.
        needs[path] = [PurePosixPath(word) for word in reversed(rest.split())]
        by_name[_name(path)] = path
    built_in = {_name(PurePosixPath(line)) for line in (tree / "modules.builtin").read_text().splitlines()}
    order: dict[PurePosixPath, None] = {}
    for module in wanted:
        name = module.replace("-", "_")
        if name in built_in:
            continue
        if name not in by_name:
            raise BedError(f"the kernel {tree.name} has no module {module}; mend: testbed/recipe.py")
        path = by_name[name]
        order.update(dict.fromkeys([*needs[path], path]))
    return list(order)


def _name(path: PurePosixPath) -> str:
    """``kernel/net/foo-bar.ko.xz`` is the module ``foo_bar``."""
    return path.name.split(".", 1)[0].replace("-", "_")
