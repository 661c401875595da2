# SPDX-License-Identifier: Apache-2.0
"""The watcher's side of a challenge over one channel: sent, answered, or what came instead.  Sans-I/O."""

from vmwarden.errors import UntrustedInput
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.message import Declared, RawStatement
from vmwarden.model.moment import Moment
from vmwarden.model.statement import STATEMENT_BYTES, Challenge, StatementReply
from vmwarden.rules import canonical

#: how long a host may take; the slowest honest companion measured under emulation took 4 s
ANSWER_MS = 10_000


class Conversation:
    """What is open on one channel."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._turn = 0
        self._asked: Moment | None = None
        self._garbage = 0

    @property
    def waiting(self) -> bool:
        """Whether a question is open."""
        return self._asked is not None

    def ask(self, challenge: Challenge, *, turn: int, now: Moment, garbage: int = 0) -> bytes:
        """The message to send.  It replaces a question still open, whose time runs on: the warden asks
        again before a host's time is up, and a silent host must not gain by that.

        garbage: lines discarded since the last question, which the channel forgets with this one.
        """
        self._turn = turn
        if self._asked is None:
            self._asked = now
            self._garbage = 0
        else:
            self._garbage += garbage
        return canonical.encode(challenge)

    def hear(self, message: bytes) -> RawStatement | None:
        """A whole message from the host; None where it is not a statement."""
        try:
            reply = canonical.decode(
                message, StatementReply, limit=STATEMENT_BYTES + 256, what="the host's answer"
            )
        except UntrustedInput:
            self._garbage += 1
            return None
        self._asked = None
        return RawStatement(turn=self._turn, source=self._source, jws=reply.jws, boot_frozen=False)

    def overdue(self, now: Moment, *, unfinished: int, garbage: int) -> Declared | None:
        """What to tell the warden when the host's time is up, once; None before.

        unfinished: bytes of a message that has begun and not ended.  garbage: discarded lines.
        """
        if self._asked is None or now.boot_ms - self._asked.boot_ms < ANSWER_MS:
            return None
        seconds = ANSWER_MS // 1000
        if garbage or self._garbage:
            return self.absent(
                f"only garbage within {seconds} s: {garbage + self._garbage} messages", "channel.garbled", now
            )
        if unfinished:
            return self.absent(
                f"too slow: {unfinished} bytes of an unfinished answer after {seconds} s", "channel.slow", now
            )
        return self.absent(f"no answer within {seconds} s", "channel.silent", now)

    def absent(self, reason: str, finding: str, now: Moment) -> Declared:
        """The evidence that there is no statement, and why; the question is closed."""
        self._asked = None
        piece = Evidence(
            id=f"{self._source}/{Subject.STATEMENT}",
            subject=Subject.STATEMENT,
            source=self._source,
            observed_at_ms=now.utc_ms,
            observed_boot_ms=now.boot_ms,
            unavailable=reason,
            finding=finding,
        )
        return Declared(turn=self._turn, source=self._source, evidence=(piece,))
