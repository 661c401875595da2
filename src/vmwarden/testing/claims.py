# SPDX-License-Identifier: Apache-2.0
"""Evidence and policies, made by hand: for tests of what is judged by them."""

from vmwarden.model.evidence import Evidence, Proof, Subject, Value
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Host, Hours, Place, Policy, Valid

#: 2026-11-23T12:00:00Z, a quarter of an hour after boot
NOW = Moment(boot_ms=900_000, utc_ms=1_795_435_200_000, boot_id="boot-1")


def claim(
    subject: Subject,
    value: Value,
    *,
    source: str = "fw_cfg",
    proof: Proof = Proof.SIGNED,
    signer: str | None = None,
    age_ms: int = 10_000,
    issued_ago_ms: int | None = 10_000,
    lasts_ms: int | None = 3_600_000,
    number: int = 0,
    now: Moment = NOW,
) -> Evidence:
    """One claim, seen age_ms ago, issued issued_ago_ms ago, valid for lasts_ms more; None = it does not say.

    signer: by default one key for each source, and "" for declared claims.  number: other than 0 for a
    second claim of the same source on the same subject.
    """
    key = signer if signer is not None else "" if proof is Proof.DECLARED else f"SHA256:{source}"
    return Evidence(
        id=f"{source}/{subject}" + (f"/{number}" if number else ""),
        subject=subject,
        source=source,
        value=value,
        proof=proof,
        signer=key,
        issued_at_ms=None if issued_ago_ms is None else now.utc_ms - issued_ago_ms,
        observed_at_ms=now.utc_ms - age_ms,
        observed_boot_ms=now.boot_ms - age_ms,
        valid_until_ms=None if lasts_ms is None else now.utc_ms + lasts_ms,
    )


def absent(
    subject: Subject, finding: str, *, source: str = "fw_cfg", reason: str = "gone", now: Moment = NOW
) -> Evidence:
    """A source that has nothing to say, or a statement that was refused."""
    return Evidence(
        id=f"{source}/{subject}",
        subject=subject,
        source=source,
        observed_at_ms=now.utc_ms,
        observed_boot_ms=now.boot_ms,
        unavailable=reason,
        finding=finding,
    )


def guarding(place: Place | None = None, host: Host | None = None, hours: Hours | None = None) -> Policy:
    """An enforce policy in its period, with these fences."""
    return Policy(
        format="vmwarden.policy/1",
        name="payments",
        version=7,
        vms=("payments-*",),
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        mode="enforce",
        place=place,
        host=host,
        hours=hours,
    )
