# SPDX-License-Identifier: Apache-2.0
"""Which functions of the warden read bytes, as their source tells."""

import ast
from collections.abc import Iterator
from pathlib import Path

import vmwarden

SOURCE = Path(vmwarden.__file__).parent
#: rooms whose code runs in the warden
ROOMS = ("warden", "cycle", "controls", "store", "linux", "rules")
#: calls by which bytes come in or get a meaning
_DOORS = frozenset(
    (
        "recv",
        "recvfrom",
        "recvmsg",
        "pread",
        "readlink",
        "read_bytes",
        "read_text",
        "read_bounded",
        "iterdir",
        "scandir",
        "getsockopt",
        "fetchone",
        "fetchall",
        "execute",
        "unpack",
        "unpack_from",
        "iter_unpack",
        "from_bytes",
        "decode",
        "loads",
        "fromhex",
        "b64decode",
        "urlsafe_b64decode",
        "load_ssh_private_key",
        "load_ssh_public_key",
        "from_encoded_point",
        "from_public_bytes",
        "getpwnam",
        "fromisoformat",
        "string_at",
    )
)
_OPENS = frozenset(("open", "read"))
_NAMES = ("parse", "read", "load", "decode", "unpack", "from_", "inherited")


def readers() -> set[str]:
    """Functions, as "linux/netlink.py:verdict" or "warden/loop.py:Loop._hear_client"."""
    found: set[str] = set()
    for room in ROOMS:
        for path in sorted((SOURCE / room).rglob("*.py")):
            where = path.relative_to(SOURCE).as_posix()
            for name, function in _functions(ast.parse(path.read_text(encoding="utf-8"))):
                plain = name.rpartition(".")[2].lstrip("_")
                if plain.startswith(_NAMES) or any(_is_door(node) for node in ast.walk(function)):
                    found.add(f"{where}:{name}")
    return found


def defined() -> set[str]:
    """Every function of these rooms."""
    return {
        f"{path.relative_to(SOURCE).as_posix()}:{name}"
        for room in ROOMS
        for path in (SOURCE / room).rglob("*.py")
        for name, _ in _functions(ast.parse(path.read_text(encoding="utf-8")))
    }


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _is_door(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "argv"):
        return True
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in _DOORS or node.func.id == "open"
    return isinstance(node.func, ast.Attribute) and (
        node.func.attr in _DOORS or (node.func.attr in _OPENS and _is_os(node.func.value))
    )


def _is_os(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("os", "file", "path")
