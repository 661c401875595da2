# SPDX-License-Identifier: Apache-2.0
"""What this VM takes as its owner's will: signatures, audience, period, version, in that order.

Nothing of a document is read before enough owners have been found to have signed it.
"""

from vmwarden.errors import BadSignature, Expired, Malformed, Problem, Rollback, WrongAudience
from vmwarden.model.owners import Owners
from vmwarden.model.policy import Policy
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, SignedDocument
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical, instant, sound, sshkey, threshold

#: bound on a policy in canonical form, bytes: a table of 5000 facilities is about 600 kB
POLICY_BYTES = 1 << 20
#: bound on owners.json, bytes: 32 keys of RSA 8192 are 46 kB
OWNERS_BYTES = 1 << 16
#: bound on a signed document, bytes: JSON in JSON doubles its quotes, and 64 signatures are 200 kB
SIGNED_BYTES = 3 << 20

_DAY_MS = 86_400_000
#: how long before its end a policy in force says so, longest first (design.md, Enrolment)
_WARNINGS = (("policy.expires.day", 1), ("policy.expires.week", 7), ("policy.expires.month", 30))


def read_signed(data: bytes) -> SignedDocument:
    """The document in a file; nothing is verified yet.  Raises TooLarge, Malformed."""
    return canonical.decode(data, SignedDocument, limit=SIGNED_BYTES, what="signed document")


def read_owners(data: bytes) -> Owners:
    """owners.json, checked to be satisfiable.  Raises TooLarge, Malformed."""
    owners = canonical.decode(data, Owners, limit=OWNERS_BYTES, what="owners")
    _require_satisfiable(owners)
    return owners


def accept_policy(
    document: SignedDocument,
    *,
    owners: Owners,
    vm: str,
    floor: int,
    utc_ms: int | None,
    current_payload: str | None = None,
) -> Policy:
    """The policy, if it may come into force on the VM enrolled as vm.

    floor: the highest version this VM has ever seen; 0 at first.  current_payload: that of the policy in
    force, which may be applied again.  utc_ms: None = time is not known, and the period is not judged
    (policy_findings says so for as long as that lasts).
    Raises BadSignature, Malformed (also for what lint would have refused: sound.policy), WrongAudience,
    Expired (also before its time), Rollback.
    """
    policy = reread_policy(document, owners=owners, vm=vm)
    require_sound(policy)
    title = f"policy {policy.name} version {policy.version}"
    if utc_ms is not None:
        if utc_ms < instant.milliseconds(policy.valid.from_):
            raise Expired(
                f"{title} may be installed from {policy.valid.from_}",
                mend="wait, or sign one that is valid now",
            )
        if utc_ms >= instant.milliseconds(policy.valid.until):
            raise Expired(
                f"{title} could be installed until {policy.valid.until}",
                mend="sign it again with a later valid.until and a higher version",
            )
    if policy.version < floor:
        raise Rollback(
            f"policy {policy.name} has version {policy.version}, this VM has already seen {floor}",
            mend=f"sign it with version {floor + 1} or higher",
        )
    if policy.version == floor and document.payload != current_payload:
        raise Rollback(
            f"policy {policy.name} has version {floor} like the one seen before, and other content",
            mend=f"sign it with version {floor + 1} or higher",
        )
    return policy


def require_sound(policy: Policy) -> None:
    """Raises Malformed with every mistake that a schema cannot see (rules.sound)."""
    problems = sound.policy(policy)
    if problems:
        raise Malformed(
            f"policy {policy.name} version {policy.version}: {sound.dotted(problems[0].path)}: "
            f"{problems[0].message}",
            problems=tuple(Problem(p.message, p.mend, path=sound.dotted(p.path)) for p in problems),
        )


def reread_policy(document: SignedDocument, *, owners: Owners, vm: str) -> Policy:
    """A policy that is in force already: signatures, audience and form.  Period and version are not judged.

    Raises BadSignature, TooLarge, Malformed, WrongAudience.
    """
    threshold.require(document, owners.keys, owners.policy_threshold, POLICY_NAMESPACE)
    policy = read_policy(document)
    if not any(matches(pattern, vm) for pattern in policy.vms):
        raise WrongAudience(
            f"policy {policy.name} is for {', '.join(policy.vms)}, this VM is enrolled as {vm}",
            mend="apply the policy that was made for this VM, or let the owner add it under vms",
        )
    return policy


def read_policy(document: SignedDocument) -> Policy:
    """What document says, signed or not: for the owner's desk.  Raises TooLarge, Malformed."""
    return canonical.decode(threshold.signed_bytes(document), Policy, limit=POLICY_BYTES, what="policy")


def accept_owners(document: SignedDocument, *, current: Owners) -> Owners:
    """The successor of current, signed by the threshold of current and by its own.

    Raises BadSignature, TooLarge, Malformed, Rollback.
    """
    _require_owners(document, current, "the owners in force")
    successor = read_owners(threshold.signed_bytes(document))
    if successor.version <= current.version:
        raise Rollback(f"owners have version {successor.version}, in force is {current.version}")
    if successor.version != current.version + 1:
        raise Malformed(
            f"owners have version {successor.version}, after {current.version} comes {current.version + 1}",
            mend="apply the rotations one after the other",
        )
    _require_owners(document, successor, "the new owners")
    return successor


def owners_problems(owners: Owners) -> tuple[Problem, ...]:
    """All that makes owners impossible to satisfy: keys that are none, names twice, thresholds too high."""
    problems: list[Problem] = []
    names: set[str] = set()
    blobs: dict[bytes, str] = {}
    for index, key in enumerate(owners.keys):
        if key.name in names:
            problems.append(Problem(f"{key.name!r} is there twice", path=f"keys.{index}.name"))
        names.add(key.name)
        try:
            blob = sshkey.parse(key.key).blob
        except Malformed as error:
            problems.extend(p._replace(path=f"keys.{index}.key") for p in error.problems)
            continue
        if blob in blobs:
            problems.append(
                Problem(
                    f"{key.name} has the same key as {blobs[blob]}",
                    mend="one person, one key",
                    path=f"keys.{index}.key",
                )
            )
        blobs.setdefault(blob, key.name)
    for path, wanted in (
        ("policy_threshold", owners.policy_threshold),
        ("owners_threshold", owners.owners_threshold),
    ):
        if wanted > len(blobs):
            problems.append(
                Problem(
                    f"{wanted} signatures wanted of {len(blobs)} different keys", mend="lower it", path=path
                )
            )
    return tuple(problems)


def policy_findings(policy: Policy, utc_ms: int | None) -> tuple[Finding, ...]:
    """What is to be said of the period of a policy in force; it never changes an answer.

    policy.expires.month, .week, .day; policy.expired; policy.early (installed while the time was not
    known, or the time has been corrected since); policy.time-unknown; policy.period-unreadable.
    The texts stay the same from turn to turn: each change of a finding is a record in the journal.
    """
    until = f"valid until {policy.valid.until}"
    if utc_ms is None:
        return (_finding("policy.time-unknown", until, "no authenticated time"),)
    try:
        start, end = instant.milliseconds(policy.valid.from_), instant.milliseconds(policy.valid.until)
    except Malformed as error:
        # apply refuses a date that no calendar has; one in force all the same stays in force
        return (Finding(id="policy.period-unreadable", answer=Answer.UNKNOWN, found=str(error)),)
    if utc_ms < start:
        return (_finding("policy.early", f"valid from {policy.valid.from_}", "that has not begun"),)
    left = end - utc_ms
    if left <= 0:
        return (_finding("policy.expired", until, "that is over"),)
    for finding_id, days in _WARNINGS:
        if left <= days * _DAY_MS:
            return (_finding(finding_id, until, f"at most {days} days left"),)
    return ()


def matches(pattern: str, vm: str) -> bool:
    """Whether the enrolled name fits a pattern in which * stands for any characters, also none."""
    first, *rest = pattern.split("*")
    if not rest:
        return vm == first
    *middle, last = rest
    if len(vm) < len(first) + len(last) or not vm.startswith(first) or not vm.endswith(last):
        return False
    at, end = len(first), len(vm) - len(last)
    for piece in middle:
        found = vm.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _require_owners(document: SignedDocument, owners: Owners, who: str) -> None:
    try:
        threshold.require(document, owners.keys, owners.owners_threshold, OWNERS_NAMESPACE)
    except BadSignature as error:
        raise BadSignature(f"{who}: {error}", mend=error.problems[0].mend) from error


def _require_satisfiable(owners: Owners) -> None:
    problems = owners_problems(owners)
    if problems:
        raise Malformed(f"owners: {problems[0].message}", problems=problems)


def _finding(finding_id: str, expected: str, found: str) -> Finding:
    return Finding(id=finding_id, answer=Answer.ALLOW, subject="policy", expected=expected, found=found)
