# SPDX-License-Identifier: Apache-2.0
"""The image that all guests boot from, built once into a cache directory.

``python3 -m testbed.image`` builds it if need be and prints each step with its time. It needs root, and
the programs of `TOOLS`. One image serves the fast guest and the systemd guest: see `testbed.spec.Init`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed import disks, rootfs
from testbed.commands import require
from testbed.disks import FileSystem, build_layer, create_disk
from testbed.failures import BedError
from testbed.recipe import Kernel, Recipe

__all__ = ["TOOLS", "FileSystem", "Image", "Kernel", "build_layer", "create_disk", "ensure_image", "main"]

CACHE_VARIABLE = "VMWARDEN_TESTBED_CACHE"
TOOLS = ("mmdebstrap", "apt-get", "dpkg-deb", "mke2fs", "busybox")
_SPARE = 64 << 20  # bytes of room in the base file system, for its own tables; its size is a multiple
_SPARE_SHARE = 1.15  # and for blocks that are not full

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Image:
    """Files of a built image. They are shared by all machines and never written to."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """The kernel, for QEMU's ``-kernel``."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk, for QEMU's ``-initrd``."""
        return self.directory / "initrd.cpio"

    @property
    def root(self) -> Path:
        """The base disk: raw, ext4, read-only."""
        return self.directory / "root.ext4"


def cache_directory() -> Path:
    """Where images are kept: ``$VMWARDEN_TESTBED_CACHE``, or a folder of the user's cache directory."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vmwarden" / "testbed"


def ensure_image(recipe: Recipe | None = None, say: Progress = lambda line: None) -> Image:
    """The image of ``recipe``, built now if no one has built it before.

    A second process that asks meanwhile waits. Raises `BedError` (or its `MissingTool`, `CommandFailed`)
    when it cannot be built; nothing half-built is left behind.
    """
    chosen = recipe or Recipe()
    cache = cache_directory()
    image = Image(cache / chosen.fingerprint())
    if image.directory.is_dir():
        return image
    require(TOOLS)
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f".{chosen.fingerprint()}.lock", say):
        if image.directory.is_dir():
            return image
        prefix = f".building-{chosen.fingerprint()}-"
        for abandoned in cache.glob(f"{prefix}*"):  # by a build that was killed: we hold the lock
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=cache) as scratch:
            Path(scratch).chmod(0o755)  # apt's own user must get through to the tree
            finished = _build(chosen, Path(scratch), say)
            finished.rename(image.directory)
    return image


def _build(recipe: Recipe, scratch: Path, say: Progress) -> Path:
    tree = scratch / "tree"
    finished = scratch / "finished"
    tree.mkdir()
    finished.mkdir()
    product = Image(finished)
    with _step(f"Debian {recipe.suite}, {len(recipe.packages)} packages and what they need", say):
        rootfs.debootstrap(recipe, tree)
    with _step(f"{recipe.kernel} kernel and initial RAM disk", say):
        modules = rootfs.take_kernel(tree, product.kernel)
        rootfs.build_initrd(recipe, modules, product.initrd)
    with _step("settings, units, the agent", say):
        rootfs.bake(recipe, tree)
        rootfs.compile_python(tree)
    with _step("base disk", say):
        used = sum(path.lstat().st_blocks * 512 for path in tree.rglob("*"))
        size = int(used * _SPARE_SHARE) + _SPARE
        create_disk(product.root, size - size % _SPARE + _SPARE)
        disks.format_ext4(product.root, tree)
        product.root.chmod(0o444)
    shutil.rmtree(tree)
    return finished


@contextlib.contextmanager
def _step(name: str, say: Progress) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{time.monotonic() - started:6.1f} s  {name}")


@contextlib.contextmanager
def _locked(path: Path, say: Progress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds this image: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prune(kept: Image) -> None:
    """Remove all other images of the cache; the caller knows that no machine runs from them."""
    for path in kept.directory.parent.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path != kept.directory:
            shutil.rmtree(path)


def main(arguments: list[str] | None = None) -> int:
    """Build the image from the command line; exit code 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python3 -m testbed.image", description="Build the test bed's image."
    )
    parser.add_argument(
        "--kernel", type=Kernel, choices=list(Kernel), default=Kernel.CLOUD, help="flavour of Debian's kernel"
    )
    parser.add_argument("--prune", action="store_true", help="then remove the images of other recipes")
    wanted = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        image = ensure_image(Recipe(kernel=wanted.kernel), say=lambda line: print(line, flush=True))
        if wanted.prune:
            _prune(image)
    except BedError as problem:
        print(f"testbed.image: {problem}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - started:6.1f} s  in all: {image.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
