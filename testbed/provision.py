# SPDX-License-Identifier: Apache-2.0
"""VMs that carry vmwarden: the install layer, and a desk that enrols VMs and signs their policies."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.disks import build_layer
from testbed.failures import BedError
from testbed.image import cache_directory

REPOSITORY = Path(__file__).resolve().parent.parent
#: Python of the guests (Debian 12)
GUEST_PYTHON = "3.11"
_LIMIT_S = 120.0
#: install layers; more than one checkout may run machines from theirs
_KEPT = 16

#: a policy as a YAML text: a place fence in Germany, enforced, SSH from the host's side stays
POLICY = """\
format: vmwarden.policy/1
name: {name}
version: {version}
vms: ["{vm}"]
valid: {{from: "2026-01-01T00:00Z", until: "2036-01-01T00:00Z"}}
mode: {mode}
manage:
  in: [{{tcp: 22, from: 10.0.2.2/32}}]
place:
  any_of:
    - {{country: DE, postal_codes: ["603*"], time_zones: [Europe/Berlin]}}
  proof: {proof}
  recheck: {recheck}
{place_more}trust:
  hosts:
{hosts}
"""


def install_layer() -> Path:
    """A layer with vmwarden as tools/install.sh installs it; made once for each state of the source."""
    out = cache_directory().parent / f"install-{_source_digest()}.squashfs"
    if out.exists():
        out.touch()  # the ones used last are kept
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(out.parent) as tree:
        _run([REPOSITORY / "tools/install.sh", "--destdir", tree, "--python-version", GUEST_PYTHON])
        build_layer(tree, out)
    for old in sorted(out.parent.glob("install-*.squashfs"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return out


@dataclass
class Desk:
    """An owner and the hosts that he trusts, with their keys in one folder."""

    directory: Path
    vm: str = "payments-1"
    hosts: tuple[str, ...] = ("rack-7",)
    _made: set[str] = field(default_factory=set)

    def key(self, name: str) -> Path:
        """The private key (OpenSSH, ed25519) of the owner or of a host; made when first asked for."""
        path = self.directory / f"{name}.key"
        if name not in self._made:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path])
            self._made.add(name)
        return path

    def public_line(self, name: str) -> str:
        """Kind and key, as policies name it."""
        self.key(name)
        return " ".join((self.directory / f"{name}.key.pub").read_text().split()[:2])

    def policy(
        self,
        *,
        version: int = 1,
        mode: str = "enforce",
        proof: str = "fresh",
        recheck: str = "30s",
        place_more: str = "",
        text: str | None = None,
    ) -> Path:
        """Write, lint and sign a policy by the owner; returns the signed file.  text: instead of POLICY."""
        hosts = "\n".join(f'    - {{name: {host}, key: "{self.public_line(host)}"}}' for host in self.hosts)
        yaml = self.directory / f"policy-{version}.yaml"
        yaml.write_text(
            text
            or POLICY.format(
                name="payments",
                version=version,
                vm=self.vm,
                mode=mode,
                proof=proof,
                recheck=recheck,
                place_more=place_more,
                hosts=hosts,
            )
        )
        signed = self.directory / f"policy-{version}.signed.json"
        signed.unlink(missing_ok=True)
        vmwarden("policy", "sign", yaml, "--key", self.key("owner"), "-o", signed)
        return signed

    def owners(self) -> Path:
        """The owners' file."""
        path = self.directory / "owners.json"
        if not path.exists():
            public = self.directory / "owner.key.pub"
            self.key("owner")
            vmwarden("policy", "owners", "new", "--key", f"owner={public}", "-o", path)
        return path

    def statement(self, *words: str, by: str = "rack-7", vm: str = "", valid_for: str = "1h") -> str:
        """A static statement, compact JWS.  words: more options of vmwarden companion statement."""
        return vmwarden(
            "companion", "statement", "--key", self.key(by), "--vm", vm or self.vm, "--host-id", by,
            "--valid-for", valid_for, *words,
        ).strip()  # fmt: skip

    @contextmanager
    def tree(self, policy: Path | None) -> Iterator[Path]:
        """A root with this VM enrolled and policy confirmed, to add files to before it becomes a layer."""
        with _scratch(self.directory) as root:
            vmwarden("enrol", "--root", root, "--vm", self.vm, "--owners", self.owners())
            if policy is not None:
                vmwarden("apply", "--root", root, policy)
            yield root

    def layer(self, policy: Path | None, out: Path) -> Path:
        """tree as a layer."""
        with self.tree(policy) as root:
            return build_layer(root, out)


def vmwarden(*words: str | Path) -> str:
    """Run the command line as a user would; returns what it prints.  Raises BedError with its words."""
    return _run([sys.executable, "-m", "vmwarden.cli.main", *words])


def _source_digest() -> str:
    digest = hashlib.sha256()
    files = [REPOSITORY / "tools/install.sh", REPOSITORY / "requirements/vm.txt"]
    files += sorted(
        p for p in (REPOSITORY / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    )
    for file in files:
        digest.update(f"{file.relative_to(REPOSITORY)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _run(words: list[str | Path]) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        cwd=REPOSITORY,
        check=False,
    )
    if done.returncode != 0:
        raise BedError(
            f"{' '.join(str(w) for w in words)} exited {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    path = beside / f".scratch-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
