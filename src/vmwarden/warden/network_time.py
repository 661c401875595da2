# SPDX-License-Identifier: Apache-2.0
"""Authenticated time from the servers that the owner lists.  No sockets and no clock of its own.

The watcher carries bytes and may withhold or delay them; keys, cookies and the verdict on every answer are
here, TLS is in a process of its own.  A round asks every server; the vote is taken with each answer, so that
a silent server costs nothing as long as enough others agree.
"""

from collections.abc import Callable

from vmwarden.errors import Malformed
from vmwarden.model.message import Carried, ToWatcher
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TrustedTime
from vmwarden.model.verdict import Answer, Finding
from vmwarden.ports.tls import Connect
from vmwarden.rules import duration
from vmwarden.rules.time_vote import Bound, Vote, quorum, vote
from vmwarden.rules.trusted_time import STAMP_SLACK_MS, TimeAnchor, drift_ms, stalled_ms
from vmwarden.warden.time_server import ServerTalk

#: no round follows another sooner: more than that is an attack to a server (RFC 5905 appendix A.1.1, BTIME)
LEAST_ROUND_MS = 2_000
#: until the first round after one without agreement; twice as long each time, at most the period
AGAIN_MS = 4_000
#: shorter standstills of the clock are not told: a loaded machine has them, too
STALLED_MS = 1_000
#: 2026-01-01T00:00Z: before it there was no vmwarden; it tells the eras of NTP apart (136 years each)
_BUILT_MS = 1_767_225_600_000


class NetworkTime:
    """One list of servers.  While there is a watcher, drive it: hear each Carried, step when a descriptor is
    readable or wait_ms is over, send what both return.  lost when the watcher is gone; close at the end."""

    def __init__(
        self,
        trusted: TrustedTime,
        *,
        period_ms: int,
        connect: Connect,
        random: Callable[[int], bytes],
        new_line: Callable[[], int],
    ) -> None:
        """period_ms: between rounds.  connect: begins TLS.  random: that many random bytes.  new_line: a
        number above all that it returned before."""
        self._period_ms = period_ms
        self._servers = tuple(
            ServerTalk(
                server,
                authorities=trusted.authorities,
                round_trip_ms=duration.milliseconds(trusted.round_trip),
                connect=connect,
                random=random,
                new_line=new_line,
            )
            for server in trusted.servers
        )
        # as many as may dawdle there, and one more: honest servers always get their turn
        self._tls_at_once = (len(trusted.servers) - 1) // 2 + 1
        self._bounds: dict[str, tuple[Bound, int]] = {}
        self._vote: Vote | None = None
        self._before: TimeAnchor | None = None
        self._asking = self._agreed = False
        self._began_ms = -LEAST_ROUND_MS
        self._next_ms = 0
        self._again_ms = AGAIN_MS
        self._findings: tuple[Finding, ...] = (_finding("time.no-quorum", Answer.UNKNOWN, "not asked yet"),)
        #: how many are over
        self.rounds = 0
        #: the newest stamp on which enough servers agreed
        self.anchor: TimeAnchor | None = None

    def ask(self, now: Moment) -> None:
        """A stamp is wanted at once (a slot begins, the VM may have moved), or as soon as servers bear it."""
        self._next_ms = min(self._next_ms, now.boot_ms if self._agreed else self._began_ms + self._again_ms)

    def step(self, now: Moment, *, floor_ms: int) -> tuple[ToWatcher, ...]:
        """Do what is due; what is to be sent.  floor_ms: an instant that has passed (rules.trusted_time)."""
        if now.boot_ms >= self._round_ms:
            if self._asking:
                self._end_round(now, floor_ms)
            self._begin_round(now)
        at_least_ms = self._at_least_ms(floor_ms)
        orders: list[ToWatcher] = []
        for server in self._servers:
            may = len(self.descriptors()) < self._tls_at_once
            orders += server.step(now, at_least_ms=at_least_ms, may_begin_tls=may)
        if self._asking and not any(server.busy for server in self._servers):
            self._end_round(now, floor_ms)
        return tuple(orders)

    def hear(self, carried: Carried, now: Moment, *, floor_ms: int) -> tuple[ToWatcher, ...]:
        """What the watcher brings.  now: read after it came.  What is to be sent.  Raises Malformed."""
        if not carried.ended.isprintable():
            raise Malformed("a line has ended for a reason that cannot be printed")
        at_least_ms = self._at_least_ms(floor_ms)
        orders: list[ToWatcher] = []
        for server in self._servers:
            before = server.bound
            orders += server.hear(carried, now, at_least_ms=at_least_ms)
            if server.bound is not None and server.bound is not before:
                self._bounds[server.server.name] = (server.bound, now.boot_ms)
                self._count(now, floor_ms)
        return (*orders, *self.step(now, floor_ms=floor_ms))

    def descriptors(self) -> tuple[int, ...]:
        """Readable when step has something to do."""
        running = (server.establishment for server in self._servers)
        return tuple(one.tls.fileno() for one in running if one is not None and one.tls is not None)

    def wait_ms(self, now: Moment) -> int:
        """For so long step has nothing to do, unless something comes."""
        if len(self.descriptors()) < self._tls_at_once and any(s.waits_for_tls for s in self._servers):
            return 0
        due = [server.due_ms for server in self._servers if server.due_ms is not None]
        return max(0, min([self._round_ms, *due]) - now.boot_ms)

    def findings(self) -> tuple[Finding, ...]:
        """What the last round came to, and what is wrong with whom.  The same from turn to turn."""
        return self._findings

    def lost(self) -> None:
        """The watcher is gone, and every line with it.  The next one is asked at once."""
        self.close()
        self._asking, self._next_ms = False, 0

    def close(self) -> None:
        """Ends TLS that is under way.  Whatever lines are open, the watcher ends by itself."""
        for server in self._servers:
            server.drop()

    # -- within -----------------------------------------------------------------------------------

    @property
    def _round_ms(self) -> int:
        """When the next round begins, CLOCK_BOOTTIME."""
        return max(self._next_ms, self._began_ms + LEAST_ROUND_MS)

    def _at_least_ms(self, floor_ms: int) -> int:
        return max(floor_ms, _BUILT_MS, self.anchor.utc_ms if self.anchor is not None else 0)

    def _begin_round(self, now: Moment) -> None:
        self._began_ms, self._next_ms = now.boot_ms, now.boot_ms + self._period_ms
        self._asking, self._vote, self._before = True, None, self.anchor
        self._bounds.clear()
        for server in self._servers:
            server.begin_round(now)

    def _count(self, now: Moment, floor_ms: int) -> None:
        bounds = []
        for bound, at_ms in self._bounds.values():
            drift = drift_ms(now.boot_ms - at_ms)
            bounds.append(Bound(bound.server, bound.earliest_ms - drift, bound.latest_ms + drift))
        first = self._vote is None
        self._vote = vote(tuple(bounds), listed=len(self._servers))
        if self._vote is None:
            return
        self.anchor = TimeAnchor(
            utc_ms=now.boot_ms + self._vote.earliest_ms,
            boot_ms=now.boot_ms,
            boot_id=now.boot_id,
            spread_ms=self._vote.latest_ms - self._vote.earliest_ms,
        )
        if first:
            # what is wrong with whom is told when the round is over
            self._findings = (*self._of_the_vote(floor_ms), *self._told())

    def _end_round(self, now: Moment, floor_ms: int) -> None:
        self._asking = False
        self.rounds += 1
        if self._vote is None:
            self._next_ms = min(self._next_ms, now.boot_ms + self._again_ms)
            self._again_ms = min(2 * self._again_ms, self._period_ms)
        else:
            self._again_ms = AGAIN_MS
        outvoted = self._vote.outvoted if self._vote is not None else ()
        # what goes with a change of the whole is told with it
        at_once = self._vote is None or not self._agreed
        self._agreed = self._vote is not None
        for server in self._servers:
            server.end_round(outvoted=server.server.name in outvoted, at_once=at_once)
        self._findings = (*self._of_the_vote(floor_ms), *self._told())

    def _of_the_vote(self, floor_ms: int) -> tuple[Finding, ...]:
        listed = len(self._servers)
        if self._vote is None or self.anchor is None:
            found = f"{quorum(listed)} of {listed} have to agree, and they do not"
            return (_finding("time.no-quorum", Answer.UNKNOWN, found),)
        found = f"{quorum(listed)} of {listed} servers, or more"
        agreed = _finding("time.agreed", Answer.ALLOW, found)
        if self.anchor.utc_ms + STAMP_SLACK_MS < floor_ms:
            found = "the servers agree on a time that has passed long ago by an earlier stamp"
            return (agreed, _finding("time.below-floor", Answer.UNKNOWN, found))
        before = self._before
        if before is None or before.boot_id != self.anchor.boot_id:
            return (agreed,)
        if stalled_ms(before, self.anchor) < STALLED_MS:
            return (agreed,)
        return (agreed, _finding("time.stalled", Answer.ALLOW, "this VM was paused, or restored"))

    def _told(self) -> tuple[Finding, ...]:
        return tuple(
            _finding(server.told.id, Answer.ALLOW, server.told.found, server.server.name)
            for server in self._servers
            if server.told is not None
        )


def _finding(finding_id: str, answer: Answer, found: str, server: str = "") -> Finding:
    return Finding(id=finding_id, answer=answer, subject="time", found=found, source=server)
