# SPDX-License-Identifier: Apache-2.0
"""A file tree in memory."""

from collections.abc import Mapping

from vmwarden.errors import SourceUnavailable


class FakeTree:
    """A ports.Tree over a dict of absolute path to content.

    files may be changed between reads.  links: symbolic links, which link() tells and read() does not
    follow.  denied: paths that exist and may not be read.
    reads: every path that was asked for, in order.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        live: bool = True,
        denied: tuple[str, ...] = (),
        links: Mapping[str, str] | None = None,
    ) -> None:
        self.files: dict[str, bytes] = dict(files or {})
        self.links: dict[str, str] = dict(links or {})
        self.reads: list[str] = []
        self._live = live
        self._denied = denied

    @property
    def live(self) -> bool:
        return self._live

    def read(self, path: str, limit: int = 65536) -> bytes:
        self.reads.append(path)
        if not path.startswith("/") or "\0" in path:
            raise SourceUnavailable(f"{path!r}: not an absolute path")
        if path in self._denied:
            raise SourceUnavailable(f"{path}: Permission denied")
        data = self.files.get(path)
        if data is None:
            raise SourceUnavailable(f"{path}: No such file or directory")
        if len(data) > limit:
            raise SourceUnavailable(f"{path}: more than {limit} bytes")
        return data

    def link(self, path: str) -> str:
        self.reads.append(path)
        if path not in self.links:
            raise SourceUnavailable(f"{path}: not a symbolic link")
        return self.links[path]

    def list(self, path: str) -> tuple[str, ...]:
        prefix = path.rstrip("/") + "/"
        names = {name[len(prefix) :].split("/")[0] for name in self.files if name.startswith(prefix)}
        if not names:
            raise SourceUnavailable(f"{path}: No such file or directory")
        return tuple(sorted(names))
