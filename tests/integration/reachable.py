# SPDX-License-Identifier: Apache-2.0
"""Folders to which every user finds his way.  Pytest's own are root's; each new session sees to that."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """Made, and removed afterwards."""
    made = Path(tempfile.mkdtemp(prefix="vmwarden-test-"))
    made.chmod(0o711)
    try:
        yield made
    finally:
        shutil.rmtree(made)
