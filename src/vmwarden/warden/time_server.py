# SPDX-License-Identifier: Apache-2.0
"""What is between us and one time server: keys, cookies, the question that is open.  Sans-I/O."""

from collections.abc import Callable
from typing import NamedTuple

from vmwarden.errors import BadSignature, Malformed, WrongAudience
from vmwarden.model.message import Carried, Dial, HangUp, ToWatcher
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TimeServer
from vmwarden.ports.tls import Connect
from vmwarden.rules import nts, time_vote
from vmwarden.rules.nts_ke import COOKIES
from vmwarden.rules.time_vote import Bound
from vmwarden.warden.key_establishment import KeyEstablishment, Keys, Trouble

#: between attempts to establish keys: the first time, half as much more each time, and at most.  10 s and 1.5
#: are those of RFC 8915 section 4.2; its limit of 5 days is not: a VM may be closed meanwhile
KE_AGAIN_MS = (10_000, 300_000)
#: the same where no connection came about: nobody is bothered, and the network may be a moment late
KE_UNREACHED_MS = (2_000, 64_000)
#: half as much more so many times is beyond both
_KE_STEPS = 20
#: keys are made anew after a day: then the certificate is looked at again
KEYS_MS = 86_400_000
#: a server that asks us to be slower is left alone for so long, doubling; one that wants us gone, for longest
KISS_MS, KISS_AT_MOST_MS = 64_000, 1_024_000
#: an answer that is not there after twice the round trip, and at least so long, will not come: what comes
#: between is told from silence, and does not count
SILENCE_MS = 1_000
#: rounds for which something has to be the same before it is told: a server that comes and goes would write
#: a record a round
STEADY_ROUNDS = 3
#: a clock that says itself to be this far off is none (RFC 5905 appendix A.1.1, MAXDIST)
ROOT_DISTANCE_MS = 1_000

OUTVOTED = Trouble("time.server.outvoted", "says another time")


class _Question(NamedTuple):
    line: int
    unique: bytes
    transmit: int
    sent_ms: int


class ServerTalk:
    """One server of the list.  Drive it: begin_round, then hear and step until it is not busy."""

    def __init__(
        self,
        server: TimeServer,
        *,
        authorities: tuple[str, ...],
        round_trip_ms: int,
        connect: Connect,
        random: Callable[[int], bytes],
        new_line: Callable[[], int],
    ) -> None:
        """random: that many random bytes.  new_line: a number that was never used."""
        self.server = server
        #: what it said in this round
        self.bound: Bound | None = None
        #: what was last wrong with it; None = nothing
        self.trouble: Trouble | None = None
        #: the same, once it lasts
        self.told: Trouble | None = None
        self.establishment: KeyEstablishment | None = None
        self._authorities = authorities
        self._round_trip_ms = round_trip_ms
        self._silence_ms = max(SILENCE_MS, 2 * round_trip_ms)
        self._connect = connect
        self._random = random
        self._new_line = new_line
        self._keys: Keys | None = None
        self._cookies: list[bytes] = []
        self._keys_made_ms = 0
        self._failures = 0
        self._next_ke_ms = 0
        self._kissed_until_ms = 0
        self._kiss_ms = KISS_MS
        self._wanted = False
        self._question: _Question | None = None
        self._noise: Trouble | None = None
        self._nak = False
        self._seen: Trouble | None = None
        self._rounds = 0

    @property
    def busy(self) -> bool:
        """Whether this round may still hear of it."""
        return self._question is not None or self.establishment is not None

    @property
    def waits_for_tls(self) -> bool:
        """Whether it goes on as soon as it may begin TLS."""
        return self.establishment is not None and self.establishment.due_ms is None

    @property
    def due_ms(self) -> int | None:
        """When step has something to do although nothing came, CLOCK_BOOTTIME; None = not before a round."""
        if self.establishment is not None:
            return self.establishment.due_ms
        if self._question is not None:
            return self._question.sent_ms + self._silence_ms
        return None

    def begin_round(self, now: Moment) -> None:
        """A stamp is wanted."""
        self.bound = None
        self._wanted = now.boot_ms >= self._kissed_until_ms

    def end_round(self, *, outvoted: bool, at_once: bool) -> None:
        """outvoted: the others say another time.  at_once: tell what is wrong now, however long it is so."""
        seen = OUTVOTED if outvoted else self.trouble
        self._rounds = self._rounds + 1 if seen == self._seen else 1
        self._seen = seen
        if at_once or self._rounds >= STEADY_ROUNDS:
            self.told = seen

    def hear(self, carried: Carried, now: Moment, *, at_least_ms: int) -> tuple[ToWatcher, ...]:
        """What came on a line; lines of others are ignored.  What is to be sent.

        at_least_ms: an instant that has certainly passed, milliseconds since 1970.
        """
        if self.establishment is not None and carried.line == self.establishment.line:
            self.establishment.hear(carried, now)
        question = self._question
        if question is None or carried.line != question.line or self._keys is None:
            return ()
        if carried.ended:
            self._noise = self._noise or Trouble("time.server.unreachable", carried.ended)
            return self._give_up(question)
        try:
            answer = nts.read(
                carried.data, key=self._keys.to_us, unique=question.unique, transmit=question.transmit
            )
        except nts.Nak as error:
            self._nak, self._noise = True, Trouble("time.server.nak", str(error))
        except WrongAudience as error:
            self._noise = Trouble("time.server.replayed", str(error))
        except (Malformed, BadSignature) as error:
            self._noise = Trouble("time.server.forged", str(error))
        else:
            self._question = None
            self._accept(answer, question, now, at_least_ms)
            return (HangUp(line=question.line),)
        # anybody on the way may have sent that: the true answer may still come
        return ()

    def step(self, now: Moment, *, at_least_ms: int, may_begin_tls: bool) -> tuple[ToWatcher, ...]:
        """Do what is due; what is to be sent.  at_least_ms: as in hear."""
        orders: list[ToWatcher] = []
        if self._question is not None and now.boot_ms >= self._question.sent_ms + self._silence_ms:
            orders += self._give_up(self._question)
        if self._wanted and not self.busy:
            orders += self._ask(now)
        running = self.establishment
        if running is not None:
            if self.waits_for_tls and may_begin_tls:
                running.begin(now)
            orders += running.go_on(now, at_least_ms=at_least_ms)
            if running.outcome is not None:
                orders.append(running.close())
                self._settle(running, running.outcome, now)
                orders += self._ask(now)
        return tuple(orders)

    def drop(self) -> None:
        """All lines are gone, and that is nobody's fault."""
        if self.establishment is not None:
            self.establishment.close()
            self.establishment = None
        self._question, self._wanted = None, False

    # -- within -----------------------------------------------------------------------------------

    def _ask(self, now: Moment) -> tuple[Dial, ...]:
        """For the time, or for keys to ask with: those take their turn (step)."""
        stale = not self._cookies or self._nak or now.boot_ms - self._keys_made_ms > KEYS_MS
        if stale and now.boot_ms >= self._next_ke_ms:
            # also if its line is gone before anything comes of it: a watcher that connects ever again
            # must not make us start a process each time
            self._next_ke_ms = now.boot_ms + KE_UNREACHED_MS[0]
            self.establishment = KeyEstablishment(
                self.server, authorities=self._authorities, line=self._new_line(), connect=self._connect
            )
            return ()
        # as long as no new keys are had the old ones go on (RFC 8915 section 5.7)
        self._wanted = False
        if self._keys is None or not self._cookies:
            return ()
        self._question = _Question(
            line=self._new_line(),
            unique=self._random(nts.UNIQUE_BYTES),
            transmit=int.from_bytes(self._random(8), "big"),
            sent_ms=now.boot_ms,
        )
        self._noise = None
        cookie = self._cookies.pop(0)
        data = nts.request(
            key=self._keys.to_server,
            unique=self._question.unique,
            cookie=cookie,
            held=len(self._cookies),
            transmit=self._question.transmit,
            nonce=self._random(nts.NONCE_BYTES),
        )
        address = self.server.ntp_address or self.server.address
        return (
            Dial(line=self._question.line, over="udp", address=address, port=self.server.ntp_port, data=data),
        )

    def _settle(self, done: KeyEstablishment, outcome: Keys | Trouble, now: Moment) -> None:
        self.establishment = None
        self._failures += 1  # until an answer shows that the keys work (RFC 8915 section 4.2)
        first, most = KE_AGAIN_MS if done.stood else KE_UNREACHED_MS
        steps = min(self._failures - 1, _KE_STEPS)
        self._next_ke_ms = now.boot_ms + min(first * 3**steps // 2**steps, most)
        if isinstance(outcome, Trouble):
            self.trouble = outcome
            return
        self._keys, self._keys_made_ms, self._nak = outcome, now.boot_ms, False
        self._cookies = list(outcome.cookies)

    def _give_up(self, question: _Question) -> tuple[HangUp]:
        self._question = None
        self.trouble = self._noise or Trouble("time.server.silent", "no answer")
        return (HangUp(line=question.line),)

    def _accept(self, answer: nts.Answer, question: _Question, now: Moment, at_least_ms: int) -> None:
        """An answer of that server to that question; whether it counts is another matter."""
        self._failures, self._next_ke_ms, self._nak = 0, 0, False
        self._cookies = (self._cookies + list(answer.cookies))[:COOKIES]
        self.trouble = self._objection(answer.header, question, now, at_least_ms)
        if self.trouble is None:
            self.bound = time_vote.bound(
                self.server.name,
                sent_boot_ms=question.sent_ms,
                received_boot_ms=now.boot_ms,
                stamp_ms=nts.milliseconds(answer.header.transmit, near_ms=at_least_ms),
                root_distance_ms=answer.header.root_distance_ms,
            )

    def _objection(
        self, header: nts.Header, question: _Question, now: Moment, at_least_ms: int
    ) -> Trouble | None:
        if header.kiss:
            rate = header.kiss == "RATE"
            self._kissed_until_ms = now.boot_ms + (self._kiss_ms if rate else KISS_AT_MOST_MS)
            self._kiss_ms = min(2 * self._kiss_ms, KISS_AT_MOST_MS)
            return Trouble("time.server.kiss", f"it asks to be left alone: {header.kiss}")
        self._kiss_ms = KISS_MS
        if now.boot_ms - question.sent_ms > self._round_trip_ms:
            return Trouble("time.server.slow", "the answer takes longer than round_trip")
        if (
            header.leap == nts.UNSYNCHRONIZED
            or header.stratum >= nts.NO_CLOCK
            or header.root_distance_ms > ROOT_DISTANCE_MS
        ):
            return Trouble("time.server.unsynchronized", "it does not know the time itself")
        stamp_ms = nts.milliseconds(header.transmit, near_ms=at_least_ms)
        if self._keys is not None and not self._keys.period.holds(stamp_ms):
            return Trouble("time.server.expired", "its stamp is outside the dates of its certificate")
        return None
