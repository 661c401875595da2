# SPDX-License-Identifier: Apache-2.0
"""A tree that keeps a copy of everything that is read through it."""

import os
from pathlib import Path

from vmwarden.errors import FileUnavailable, SourceUnavailable, UsageError
from vmwarden.ports.tree import Tree


class RecordingTree:
    """A ports.Tree that writes each file that could be read, and each link, below folder.

    A FileTree over folder then gives the same answers, except that what was denied is absent there.
    Raises UsageError if folder is there and not empty, FileUnavailable if it cannot be made or written.
    """

    def __init__(self, tree: Tree, folder: Path) -> None:
        self._tree = tree
        self._folder = folder
        self.recorded: set[str] = set()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            empty = not any(folder.iterdir())
        except OSError as error:
            raise FileUnavailable(f"{folder}: {error.strerror}") from error
        if not empty:
            raise UsageError(f"{folder} is not empty")

    @property
    def live(self) -> bool:
        return self._tree.live

    def read(self, path: str, limit: int = 65536) -> bytes:
        data = self._tree.read(path, limit)
        if path not in self.recorded:
            target = self._place(path)
            try:
                descriptor = os.open(
                    target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
                with open(descriptor, "wb") as file:
                    file.write(data)
            except OSError as error:
                raise FileUnavailable(f"{target}: {error.strerror}") from error
            self.recorded.add(path)
        return data

    def link(self, path: str) -> str:
        points = self._tree.link(path)
        if path not in self.recorded:
            target = self._place(path)
            try:
                target.symlink_to(points)
            except OSError as error:
                raise FileUnavailable(f"{target}: {error.strerror}") from error
            self.recorded.add(path)
        return points

    def list(self, path: str) -> tuple[str, ...]:
        return self._tree.list(path)

    def _place(self, path: str) -> Path:
        if ".." in path.split("/"):
            raise SourceUnavailable(f"{path}: '..' is not recorded")
        target = self._folder / path.lstrip("/")
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FileUnavailable(f"{target.parent}: {error.strerror}") from error
        return target
