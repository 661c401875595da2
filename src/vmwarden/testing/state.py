# SPDX-License-Identifier: Apache-2.0
"""States of the disk to start from: one VM, payments-1, and its owners ada, bob and cyd (two of three)."""

from functools import cache
from typing import Literal

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vmwarden.model.enrolment import Enrolment
from vmwarden.model.installed import Armed, Cell, Floors, Pending, Session, Slot, Unreadable
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy, Valid
from vmwarden.rules import canonical
from vmwarden.rules.installation import digest
from vmwarden.testing.owners import owners, private_key, public_line, signed_policy

VM = "payments-1"
OWNERS = owners("ada", "bob", "cyd", policy_threshold=2, owners_threshold=2)
#: the moment at which these policies are applied; they are valid then
NOW = Moment(boot_ms=60_000, utc_ms=1_795_435_200_000, boot_id="boot-1")


def policy(version: int, mode: Literal["observe", "enforce"], *, name: str = "payments") -> Policy:
    """A policy for payments-*, valid from 2026-11-01 to 2027-11-01."""
    return Policy(
        format="vmwarden.policy/1",
        name=name,
        version=version,
        vms=("payments-*",),
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        mode=mode,
    )


def file(will: Policy, *by: str) -> bytes:
    """policy.signed.json, signed by ada and bob unless said otherwise."""
    return signed_policy(will, *(by or ("ada", "bob")))


def floors(will: Policy, *, owners_version: int = 1, time_utc_ms: int = 0) -> bytes:
    """floors.json after the confirmation of this policy."""
    return canonical.encode(
        Floors(
            policy_version=will.version,
            policy_sha256=digest(canonical.encode(will)),
            enforcing=will.mode == "enforce",
            owners_version=owners_version,
            time_utc_ms=time_utc_ms,
        )
    )


def latch(will: Policy) -> bytes:
    """The armed latch set by this policy."""
    return canonical.encode(
        Armed(vm=VM, policy_version=will.version, policy_sha256=digest(canonical.encode(will)))
    )


def trial(
    will: Policy, before: bytes | None, *, session: Session | None = None, within_ms: int = 120_000
) -> bytes:
    """pending.json of a trial of this policy that began at NOW."""
    return canonical.encode(
        Pending(
            state="trial",
            document=digest(file(will)),
            previous=digest(before) if before is not None else None,
            name=will.name,
            version=will.version,
            mode=will.mode,
            boot_id=NOW.boot_id,
            applied_boot_ms=NOW.boot_ms,
            applied_utc_ms=NOW.utc_ms,
            deadline_boot_ms=NOW.boot_ms + within_ms,
            session=session or Session(),
        )
    )


@cache
def identity(name: str = "identity") -> bytes:
    """identity.key: one key has many files, so keep to the first."""
    return private_key(name).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def enrolment(vm: str = VM, *, generation: int = 1) -> bytes:
    """enrolment.json."""
    return canonical.encode(Enrolment(vm=vm, generation=generation, key=public_line("identity")))


def closed_rules(will: Policy) -> str:
    """What stands in for the ruleset at boot."""
    return f"# closed rules of {will.name} version {will.version}\n"


def image() -> dict[Slot, Cell]:
    """A golden image: owners and nothing else."""
    return {Slot.OWNERS: canonical.encode(OWNERS)}


def enrolled() -> dict[Slot, Cell]:
    """Enrolled, no policy yet."""
    return image() | {
        Slot.ENROLMENT: enrolment(),
        Slot.IDENTITY: identity(),
        Slot.FLOORS: canonical.encode(Floors(owners_version=1)),
    }


def confirmed(will: Policy) -> dict[Slot, Cell]:
    """This policy confirmed and in force; armed if it enforces."""
    state = enrolled() | {Slot.POLICY: file(will), Slot.FLOORS: floors(will)}
    if will.mode == "enforce":
        state |= {Slot.ARMED: latch(will), Slot.CLOSED: closed_rules(will).encode()}
    return state


def on_trial(will: Policy, before: dict[Slot, Cell], *, session: Session | None = None) -> dict[Slot, Cell]:
    """This policy on trial since NOW, over that state."""
    old = before.get(Slot.POLICY)
    if isinstance(old, Unreadable):
        old = None
    return before | {
        Slot.PREVIOUS: old,
        Slot.PENDING: trial(will, old, session=session),
        Slot.POLICY: file(will),
    }
