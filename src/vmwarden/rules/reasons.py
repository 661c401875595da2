# SPDX-License-Identifier: Apache-2.0
"""How fences put what they found into words and stable ids."""

from collections.abc import Iterable, Sequence
from operator import attrgetter

from vmwarden.model.evidence import Evidence, Proof, Subject, Value
from vmwarden.model.fact import Fact, Standing
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import facts

# The second half of an id whose first half is a subject ("place.country" + ".mismatch").
MATCH = "match"
MISMATCH = "mismatch"
UNKNOWN = "unknown"
TOO_WEAK = "too-weak"
CONTRADICTED = "contradicted"

_source = attrgetter("source")

#: characters of a stranger's value that a finding repeats
SHOWN = 200
#: pieces that did not count and are told one by one; a flood of them must not fill the journal
PIECES = 16


def finding(
    subject: Subject, kind: str, answer: Answer, *, expected: str, found: str, source: str = ""
) -> Finding:
    """One finding on one subject; its id is "<subject>.<kind>"."""
    return Finding(
        id=subject + "." + kind,
        answer=answer,
        subject=subject,
        expected=expected,
        found=found,
        source=source,
    )


def unestablished(fact: Fact, expected: str) -> list[Finding]:
    """Why a fact is unknown or contradicted: its own finding, and one for each piece that did not count."""
    if fact.standing is Standing.CONTRADICTED:
        own = finding(
            fact.subject,
            CONTRADICTED,
            Answer.DENY,
            expected=expected,
            found=_each(f"{shown(piece.value)} ({piece.source})" for piece in fact.evidence),
            source=by(fact.evidence),
        )
    else:
        weak = [piece for piece, reason in fact.discounted if reason == facts.TOO_WEAK]
        own = finding(
            fact.subject,
            TOO_WEAK if weak else UNKNOWN,
            Answer.UNKNOWN,
            expected=f"{expected}, at least {fact.at_least}",
            found=_each(f"{shown(piece.value)} ({piece.proof})" for piece in weak) or "nothing",
            source=by(weak),
        )
    return [own, *_of_pieces(fact.subject, fact.discounted, "")]


def refused_statements(statements: Iterable[Evidence]) -> list[Finding]:
    """Why host statements were refused: the very ids that refused them, so that nobody has to guess.

    statements: the evidence on host.statement.
    """
    refused = facts.ordered([piece for piece in statements if piece.unavailable])
    reasons = [(piece, piece.finding or facts.UNAVAILABLE) for piece in refused]
    return _of_pieces(Subject.STATEMENT, reasons, "a statement of a trusted host")


def _of_pieces(subject: Subject, reasons: Sequence[tuple[Evidence, str]], expected: str) -> list[Finding]:
    """One finding for each piece, up to PIECES of them, and how many more there are."""
    told = [
        Finding(
            id=reason,
            answer=Answer.UNKNOWN,
            subject=subject,
            expected=expected,
            found=(piece.unavailable or shown(piece.value))[:SHOWN],
            source=piece.source,
        )
        for piece, reason in reasons[:PIECES]
    ]
    more = len(reasons) - len(told)
    if more:
        found = f"{more} more pieces that do not count"
        told.append(Finding(id=facts.MORE, answer=Answer.UNKNOWN, subject=subject, found=found))
    return told


def _each(texts: Iterable[str]) -> str:
    return "; ".join(texts)[:SHOWN]


def by(evidence: Iterable[Evidence]) -> str:
    """Who said it: the sources, each once."""
    return ", ".join(sorted(set(map(_source, evidence))))[:SHOWN]


def shown(value: Value) -> str:
    """A value for people."""
    if isinstance(value, str):
        return value[:SHOWN]
    if isinstance(value, tuple):
        return ", ".join(value)[:SHOWN]
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"  # Python itself refuses to write very long ones
    return str(value)


def strength(fact: Fact) -> str:
    """ "DE, fresh" of a known fact."""
    return f"{shown(fact.value)}, {(fact.proof or Proof.DECLARED).value}"
