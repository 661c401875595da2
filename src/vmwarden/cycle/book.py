# SPDX-License-Identifier: Apache-2.0
"""All evidence that is known now, and the questions that are still open."""

from typing import NamedTuple

import msgspec

from vmwarden.errors import UntrustedInput
from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.message import Declared, RawStatement
from vmwarden.model.moment import Moment
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import Audience, Challenge
from vmwarden.rules.statement import Admitted, admit, fingerprints
from vmwarden.rules.trusted_time import TimeAnchor

#: a nonce is answered within this or never: the slowest honest channel seen took 4 s under emulation
NONCE_LIFE_MS = 30_000
#: questions open at a time; an older one is forgotten
NONCES = 4
#: sources that are kept; the catalog has a tenth of this, a captured watcher would invent more
SOURCES = 64
#: of them those that bring statements: a handful of carriers and channels.  A captured watcher would repeat
#: one true statement under every name, and each turn weighs them all
CARRIERS = 16
#: statements of one source in one turn; a static carrier holds four at most (rules.statement_carrier)
STATEMENTS = 8
#: characters of a name, and of a reason, that are kept; rules.claim makes values of at most as many
_NAME_CHARACTERS, _REASON_CHARACTERS = 200, 500
#: integers up to here have one form in every reader of JSON (RFC 8259, section 6)
_EXACT = 2**53 - 1


class Overreach(UntrustedInput):
    """The watcher said what it must not say.  Only a captured or broken watcher does."""


class _Page(NamedTuple):
    """What one source has stated in one turn."""

    turn: int
    statements: int = 0
    pieces: tuple[Evidence, ...] = ()


class Book:
    """One page a source.  A source's newer gathering replaces its older one, whole.

    What a statement proved stays until its age ends it, even when a later statement of the same source
    is refused: a host that stumbles once is judged by age, as the policy says.  The refusal is kept
    beside it, so that people see why.
    """

    def __init__(self, *, audience: Audience, hosts: tuple[TrustedHost, ...]) -> None:
        self._audience = audience
        self._hosts = hosts
        self._declared: dict[str, tuple[Evidence, ...]] = {}
        self._stated: dict[str, _Page] = {}
        self._refused: dict[str, Evidence] = {}
        self._nonces: dict[str, int] = {}
        self._spoken: set[str] = set()
        self._stamped_by = ""
        self.anchor: TimeAnchor | None = None

    def trust(self, hosts: tuple[TrustedHost, ...]) -> None:
        """From now on these hosts count; what others have stated is forgotten, their time too."""
        self._hosts = hosts
        keys = fingerprints(hosts)
        for source, page in list(self._stated.items()):
            kept = tuple(piece for piece in page.pieces if piece.signer in keys)
            self._stated[source] = page._replace(pieces=kept)
            if not kept:
                del self._stated[source]
        if self._stamped_by not in keys:
            self.anchor = None
        self._refused.clear()

    def challenge(self, nonce: str, now: Moment) -> Challenge:
        """A question to the host; its nonce counts for NONCE_LIFE_MS and once."""
        self._nonces = {n: born for n, born in self._nonces.items() if now.boot_ms - born <= NONCE_LIFE_MS}
        while len(self._nonces) >= NONCES:
            del self._nonces[min(self._nonces, key=self._nonces.__getitem__)]
        self._nonces[nonce] = now.boot_ms
        return Challenge(aud=self._audience, nonce=nonce)

    def add_declared(self, message: Declared, now: Moment) -> None:
        """What a source says without proof.  Raises Overreach if it claims proof, and adds nothing."""
        self._demand_room(message.source)
        page = []
        for piece in message.evidence:
            if piece.proof is not Proof.DECLARED or piece.signer:
                raise Overreach(
                    f"{message.source} claims proof for {piece.subject} that only the warden can find"
                )
            if piece.source != message.source:
                raise Overreach(f"{message.source} speaks for another source")
            _demand_plain(piece)
            # our clock, not the watcher's: a captured watcher must not be able to keep evidence young
            page.append(
                msgspec.structs.replace(piece, observed_boot_ms=now.boot_ms, observed_at_ms=now.utc_ms)
            )
        refusals = [piece for piece in page if piece.subject is Subject.STATEMENT and piece.unavailable]
        if refusals:
            self._refused[message.source] = refusals[-1]
        claims = tuple(piece for piece in page if piece.subject is not Subject.STATEMENT)
        self._declared[message.source] = claims
        if any(not piece.unavailable for piece in claims):
            self._spoken.add(message.source)

    def add_statement(self, message: RawStatement, now: Moment, *, utc_ms: int | None) -> Admitted:
        """Verify a signed document.  A refused one is remembered with its reason.  Raises Overreach."""
        self._demand_room(message.source)
        live = frozenset(n for n, born in self._nonces.items() if now.boot_ms - born <= NONCE_LIFE_MS)
        admitted = admit(
            message.jws,
            source=message.source,
            boot_frozen=message.boot_frozen,
            hosts=self._hosts,
            audience=self._audience,
            nonces=live,
            now=now,
            utc_ms=utc_ms,
        )
        asked_boot_ms = now.boot_ms
        if admitted.nonce is not None:
            asked_boot_ms = self._nonces.pop(admitted.nonce)
        if all(piece.unavailable for piece in admitted.evidence):
            self._refused[message.source] = admitted.evidence[0]
            return admitted
        page = self._stated.get(message.source)
        if page is None and len(self._stated) >= CARRIERS:
            raise Overreach(f"more than {CARRIERS} sources of statements")
        if page is None or page.turn != message.turn:
            page = _Page(message.turn)
        if page.statements >= STATEMENTS:
            raise Overreach(f"more than {STATEMENTS} statements of {message.source} in one turn")
        self._refused.pop(message.source, None)
        self._spoken.add(message.source)
        self._stated[message.source] = _Page(
            message.turn, page.statements + 1, page.pieces + admitted.evidence
        )
        if admitted.stamped_utc_ms is not None:
            # made after we asked and before we heard it, and cut to a whole second
            spread_ms = 1_000 + now.boot_ms - asked_boot_ms
            self.anchor = TimeAnchor(
                utc_ms=admitted.stamped_utc_ms,
                boot_ms=now.boot_ms,
                boot_id=now.boot_id,
                spread_ms=spread_ms,
            )
            self._stamped_by = admitted.evidence[0].signer
        return admitted

    def evidence(self) -> tuple[Evidence, ...]:
        """Everything, refusals included; rules.facts decides what counts."""
        pages = [*self._declared.values(), *(page.pieces for page in self._stated.values())]
        return tuple(piece for page in pages for piece in page) + tuple(self._refused.values())

    def failing(self) -> tuple[str, ...]:
        """Sources that have spoken and now have nothing but failures to show."""
        speaking = {s for s, page in self._declared.items() if any(not p.unavailable for p in page)}
        stumbling = self._stated.keys() & self._refused.keys()
        return tuple(sorted(self._spoken - (speaking | (self._stated.keys() - stumbling))))

    def sources(self) -> int:
        """How many sources have ever spoken."""
        return len(self._spoken)

    def _demand_room(self, source: str) -> None:
        """Raises Overreach for a name that is none, and for one source too many."""
        if len(source) > _NAME_CHARACTERS or not source.isprintable():
            raise Overreach(
                f"a source with a name of {len(source)} characters, or one that cannot be printed"
            )
        if source in self._declared or source in self._stated or source in self._refused:
            return
        if len(self._declared.keys() | self._stated.keys() | self._refused.keys()) >= SOURCES:
            raise Overreach(f"more than {SOURCES} sources")


def _demand_plain(piece: Evidence) -> None:
    """Honest sources bound what they read (rules.claim).  Raises Overreach for what only a captured watcher
    sends: it would reach the journal and people's terminals, and fill both."""
    value = piece.value
    texts = [piece.id, piece.finding, *(value if isinstance(value, tuple) else ())]
    if isinstance(value, str):
        texts.append(value)
    if (
        any(len(text) > _NAME_CHARACTERS or not text.isprintable() for text in texts)
        or len(texts) > _NAME_CHARACTERS
        or len(piece.unavailable) > _REASON_CHARACTERS
        or not piece.unavailable.isprintable()
    ):
        raise Overreach(f"{piece.source} says of {piece.subject} what is too long or cannot be printed")
    numbers = (value, piece.issued_at_ms, piece.valid_until_ms)
    if any(isinstance(number, int) and abs(number) > _EXACT for number in numbers):
        raise Overreach(f"{piece.source} says a number of {piece.subject} that is none")
