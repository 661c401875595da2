# SPDX-License-Identifier: Apache-2.0
"""Files on the owner's desk."""

from dataclasses import dataclass
from pathlib import Path

from vmwarden.errors import Malformed, UsageError
from vmwarden.linux.files import read_bounded
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.owners import Owners
from vmwarden.model.policy import Policy
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, SIGNED_HEAD, SignedDocument
from vmwarden.owner import lint, signing, yaml, zones
from vmwarden.owner.inline import ReadBeside
from vmwarden.rules import threshold, trust


@dataclass(frozen=True, slots=True)
class Opened:
    """A policy, owners or an order, as read from a file.  report and an unsigned document: it was YAML."""

    noun: signing.Signable
    document: SignedDocument
    report: lint.Report | None


def check(file: str) -> lint.Report:
    """Lint of a policy file.  Raises WorldError or UntrustedInput if the file cannot be read at all."""
    path = Path(file)
    data = read(path, yaml.FILE_BYTES)
    return lint.lint(data, file, read_beside=_beside(path), zones=zones.installed(), find_zone=Tzdata().zone)


def open_any(file: str) -> Opened:
    """A policy in YAML, or anything signed.

    Raises UntrustedInput with every mistake of a YAML policy; and what read raises.
    """
    data = read(Path(file), trust.SIGNED_BYTES)
    if data.startswith(SIGNED_HEAD):
        return opened(trust.read_signed(data))
    report = check(file)
    if report.policy is None:
        raise Malformed(f"{file}: {len(report.errors)} mistakes", problems=report.errors)
    return Opened(report.policy, signing.document_of(report.policy), report)


def opened(document: SignedDocument) -> Opened:
    """What document carries, whoever signed it.  Raises Malformed."""
    return Opened(signing.noun_of(document), document, None)


def would_take(document: SignedDocument, owners: Owners, vm: str | None) -> tuple[str, ...]:
    """Names of those who signed, if VMs of these owners would take document; period and version apart.

    vm: the name of the one VM that is meant, or None.  Raises UntrustedInput as that VM would.
    """
    noun = signing.noun_of(document)
    if isinstance(noun, Owners):
        successor = trust.accept_owners(document, current=owners)
        return threshold.signers(document, (*owners.keys, *successor.keys), OWNERS_NAMESPACE)
    if not isinstance(noun, Policy):
        raise UsageError("an order to purge is verified by the VM it is for")
    names = threshold.require(document, owners.keys, owners.policy_threshold, POLICY_NAMESPACE)
    if vm is not None:
        trust.reread_policy(document, owners=owners, vm=vm)
    trust.require_sound(noun)
    return names


def read(path: Path, limit: int) -> bytes:
    """A whole file; its own name may be a symbolic link.  Raises WorldError, TooLarge, Malformed."""
    return read_bounded(path.resolve(), limit)


def _beside(policy: Path) -> ReadBeside:
    folder = policy.resolve().parent

    def read_beside(name: str) -> bytes:
        try:
            path = (folder / name).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that run in a circle
            raise Malformed(f"no such file: {error}") from error
        if not path.is_relative_to(folder):
            raise Malformed("leads out of the policy's folder", mend="copy the file there")
        return read_bounded(path, yaml.FILE_BYTES)

    return read_beside
