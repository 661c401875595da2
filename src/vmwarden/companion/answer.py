# SPDX-License-Identifier: Apache-2.0
"""What the host says to a VM: pure, so that a test can hold it to the protocol byte by byte."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.companion.facts import HostFacts
from vmwarden.errors import UntrustedInput, UsageError
from vmwarden.model.statement import Audience, Challenge, HostStatement, StatementReply
from vmwarden.rules import canonical
from vmwarden.rules.statement import issue

#: seconds for which an answer holds: two of the default rechecks, below the bound of five minutes
ANSWER_SECONDS = 120
#: a challenge is about 150 bytes
CHALLENGE_BYTES = 1024


def statement(
    facts: HostFacts, *, audience: Audience, now_s: int, valid_for_s: int, nonce: str | None = None
) -> HostStatement:
    """The statement of these facts.  Raises UsageError without a host id, Malformed for a bad label date."""
    if facts.host_id is None:
        raise UsageError("the host has no id: give --host-id, or host_id in the facts file")
    return HostStatement(
        aud=audience,
        iat=now_s,
        exp=now_s + valid_for_s,
        host_id=facts.host_id,
        host_name=facts.host_name,
        country=facts.country,
        subdivision=facts.subdivision,
        city=facts.city,
        postal_code=facts.postal_code,
        time_zone=facts.time_zone,
        building=facts.building,
        hypervisor=facts.hypervisor,
        hypervisor_version=facts.hypervisor_version,
        compliance=facts.labels(),
        nonce=nonce,
    )


def answer(message: bytes, *, vm: str, facts: HostFacts, key: Ed25519PrivateKey, now_s: int) -> bytes | None:
    """The reply to one message from the VM; None where there is nothing to say to it.

    Only a challenge in the name of the VM on this wire is answered: another's statement is never handed out.
    """
    try:
        challenge = canonical.decode(message, Challenge, limit=CHALLENGE_BYTES, what="challenge")
    except UntrustedInput:
        return None
    if challenge.aud.vm != vm:
        return None
    said = statement(
        facts, audience=challenge.aud, now_s=now_s, valid_for_s=ANSWER_SECONDS, nonce=challenge.nonce
    )
    return canonical.encode(StatementReply(jws=issue(said, key)))
