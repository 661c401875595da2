# SPDX-License-Identifier: Apache-2.0
"""Enrolment: this VM gets a name, a key of its own, and owners."""

import json

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vmwarden.errors import Malformed, TooLarge, UsageError
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.installed import Cell, Change, Floors, Put, Slot, Step
from vmwarden.model.owners import Owners
from vmwarden.rules import canonical, sshkey, trust
from vmwarden.rules.installation import armed, look
from vmwarden.store import cells
from vmwarden.store.cells import Disk, StateDisk
from vmwarden.store.layout import Layout


def enrol(
    layout: Layout,
    *,
    vm: str,
    owners: bytes | None,
    generation: int = 1,
    disk: Disk | None = None,
) -> Enrolment:
    """Make the identity and write owners and enrolment, the enrolment last.

    owners: a file as people write it; None = the owners.json that the image brings.
    Raises UsageError if the VM is enrolled or armed, Malformed for a bad name or owners, FileUnavailable.
    """
    with cells.changing(layout):
        state = cells.read(layout)
        if state[Slot.ENROLMENT] is not None:
            raise UsageError(
                "this VM is enrolled already: vmwarden enrol --renew gives it the next generation, vmwarden "
                "purge ends its life"
            )
        if armed(look(state)):
            raise UsageError("this VM is armed and its enrolment is gone: put enrolment.json back, or purge")
        known = _owners(state[Slot.OWNERS], owners)
        enrolment, key = _identity(vm, generation)
        steps: list[Step] = [Put(Slot.IDENTITY, key)]
        if state[Slot.OWNERS] is None:
            steps.append(Put(Slot.OWNERS, canonical.encode(known)))
        steps.append(Put(Slot.FLOORS, canonical.encode(Floors(owners_version=known.version))))
        steps.append(Put(Slot.ENROLMENT, canonical.encode(enrolment)))
        cells.carry_out(steps, disk or StateDisk(layout))
        return enrolment


def renew(layout: Layout, *, generation: int | None = None, disk: Disk | None = None) -> Enrolment:
    """The same name, the next generation, a new key: for a clone that may live.  Policy and latch stay.

    generation: higher than the present one; None = the next.
    Raises UsageError if the VM is not enrolled or generation is not higher, FileUnavailable.
    """
    with cells.changing(layout):
        present = look(cells.read(layout)).enrolment
        if present.value is None:
            raise UsageError(f"there is no enrolment to renew: {present.why}")
        wanted = present.value.generation + 1 if generation is None else generation
        if wanted <= present.value.generation:
            raise UsageError(f"--generation must be above {present.value.generation}")
        enrolment, key = _identity(present.value.vm, wanted)
        cells.carry_out(
            (Put(Slot.IDENTITY, key), Put(Slot.ENROLMENT, canonical.encode(enrolment))),
            disk or StateDisk(layout),
        )
        return enrolment


def change(enrolment: Enrolment) -> Change:
    """What the journal says of an enrolment or renewal."""
    return Change(
        "vm.enrolled",
        {
            "vm": enrolment.vm,
            "generation": enrolment.generation,
            "identity": sshkey.parse(enrolment.key).fingerprint,
        },
    )


def read_owners(data: bytes) -> Owners:
    """Owners as people write them: JSON in any layout, no key twice in one object, nothing unknown.

    Raises TooLarge, Malformed with every problem.
    """
    if len(data) > trust.OWNERS_BYTES:
        raise TooLarge(f"owners: more than {trust.OWNERS_BYTES} bytes")
    try:
        json.loads(data, object_pairs_hook=_once)
        owners = msgspec.json.decode(data, type=Owners)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"owners: {error}", mend="see docs/reference/enrolment.md for the form") from error
    problems = trust.owners_problems(owners)
    if problems:
        raise Malformed(f"owners: {problems[0].message}", problems=problems)
    return owners


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name[:64]!r} is there twice")
    return dict(pairs)


def _owners(present: Cell, given: bytes | None) -> Owners:
    new = read_owners(given) if given is not None else None
    if present is None:
        if new is None:
            raise UsageError("say who owns this VM: --owners FILE")
        return new
    if not isinstance(present, bytes):
        raise Malformed(f"owners.json: {present.why}")
    old = trust.read_owners(present)
    if new is not None and new != old:
        raise UsageError(
            "the image brings another owners.json: leave out --owners to take it, or remove it from the image"
        )
    return old


def _identity(vm: str, generation: int) -> tuple[Enrolment, bytes]:
    private = Ed25519PrivateKey.generate()
    line = sshkey.from_public_key(private.public_key()).line
    try:
        enrolment = msgspec.convert({"vm": vm, "generation": generation, "key": line}, type=Enrolment)
    except msgspec.ValidationError as error:
        raise Malformed(
            f"enrolment: {error}",
            mend="a name is up to 63 of a-z 0-9 . _ -, beginning with a letter or digit",
        ) from error
    return enrolment, private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
