# SPDX-License-Identifier: Apache-2.0
"""The watcher is confined to what the catalog names (READ): a source that reads elsewhere would be blind, and
only in a real VM."""

from pathlib import Path

from vmwarden.errors import SourceUnavailable
from vmwarden.ports.source import Source
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.tree import FakeTree
from vmwarden.watcher.catalog import READ, ROOT_ONLY, SOURCES

NOW = FakeClock().now()
#: links of the kernel to where the files are (proc(5))
LINKS = {"/proc/device-tree": "/sys/firmware/devicetree/base"}
#: folders that sources list, so that they go on to read what is in them
FOLDERS = {"/sys/class/virtio-ports/vport0p1/name": b"x\n", "/sys/firmware/dmi/entries/11-0/raw": b""}


class Recording(FakeTree):
    """Knows what was listed, too, and not what was only looked at as a link: Landlock does not mind that."""

    def __init__(self) -> None:
        super().__init__(FOLDERS)
        self.listed: list[str] = []

    def link(self, path: str) -> str:
        raise SourceUnavailable(f"{path}: not a symbolic link")

    def list(self, path: str) -> tuple[str, ...]:
        self.listed.append(path)
        return super().list(path)


def paths(source: Source) -> set[str]:
    tree = Recording()
    source.read(tree, NOW)
    source.statements(tree)
    return {*tree.reads, *tree.listed}


def resolved(path: str) -> Path:
    for link, target in LINKS.items():
        if path.startswith(link):
            return Path(target + path.removeprefix(link))
    return Path(path)


def test_every_source_stays_below_what_the_catalog_names() -> None:
    for source in SOURCES:
        outside = {
            path
            for path in paths(source)
            if path not in ROOT_ONLY and not any(resolved(path).is_relative_to(allowed) for allowed in READ)
        }
        assert outside == set(), source.name


def test_the_recording_sees_what_sources_read() -> None:
    seen = {path for source in SOURCES for path in paths(source)}

    assert {"/proc/cpuinfo", "/sys/class/virtio-ports", "/sys/class/rtc/rtc0/since_epoch"} <= seen
    assert "/etc/localtime" not in seen
