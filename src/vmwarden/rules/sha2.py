# SPDX-License-Identifier: Apache-2.0
"""SHA-256 and SHA-512 of Python itself.

hashlib loads the system's OpenSSL: 3.5 MB more in each of the two processes (docs/benchmarks.md counts
them), beside the OpenSSL that cryptography brings along.  What is hashed here is small.  The standard
library's random takes the same modules for the same reason; where a Python has none of them, hashlib does.
"""

import importlib
from collections.abc import Callable
from typing import Any, Protocol


class Hash(Protocol):
    """What hashlib calls a hash object."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


def _made_by(name: str) -> Callable[..., Any]:
    # _sha2 since Python 3.12, one module a function before
    for module in ("_sha2", f"_{name}"):
        try:
            return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
        except ImportError:
            continue
    return getattr(importlib.import_module("hashlib"), name)  # type: ignore[no-any-return]


_sha256, _sha512 = _made_by("sha256"), _made_by("sha512")


def sha256(data: bytes = b"") -> Hash:
    """A SHA-256 that has read data."""
    found: Hash = _sha256(data)
    return found


def sha512(data: bytes = b"") -> Hash:
    """A SHA-512 that has read data."""
    found: Hash = _sha512(data)
    return found
