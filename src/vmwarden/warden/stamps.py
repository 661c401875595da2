# SPDX-License-Identifier: Apache-2.0
"""Trusted time as the policy in force has it: from its time servers, or from the stamps of hosts."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmwarden.model.message import Carried
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TrustedTime
from vmwarden.model.verdict import Finding
from vmwarden.ports.tls import Connect
from vmwarden.rules import canonical
from vmwarden.rules.trusted_time import TimeAnchor, best, counts, host_differs

if TYPE_CHECKING:
    from vmwarden.warden.network_time import NetworkTime

#: orders that are kept for a watcher that does not take them: a round of nine servers has eighteen
_ORDERS = 64


class Stamps:
    """Where a policy lists no time servers, nothing of network time is loaded and nothing is asked."""

    def __init__(self, *, connect: Connect, random: Callable[[int], bytes]) -> None:
        """connect: begins TLS.  random: that many random bytes."""
        self._connect = connect
        self._random = random
        self._new_line = itertools.count(1).__next__
        self._follows: tuple[TrustedTime | None, int] = (None, 0)
        self._time: NetworkTime | None = None
        self._orders: list[bytes] = []

    @property
    def network(self) -> TimeAnchor | None:
        """On which the listed servers agreed last; of which boot, it says itself."""
        return None if self._time is None else self._time.anchor

    @property
    def listed(self) -> bool:
        """Whether there are time servers: then no host's stamp moves the floor."""
        return self._time is not None

    def follow(self, trusted: TrustedTime | None, *, period_ms: int) -> None:
        """The policy in force says so.  What other servers agreed on is forgotten."""
        if (trusted, period_ms) == self._follows:
            return
        self.close()
        self._follows, self._time = (trusted, period_ms), None
        if trusted is None:
            return
        # half a megabyte that only those have who use it
        from vmwarden.warden.network_time import NetworkTime

        self._time = NetworkTime(
            trusted,
            period_ms=period_ms,
            connect=self._connect,
            random=self._random,
            new_line=self._new_line,
        )

    def ask(self, now: Moment) -> None:
        """A stamp is wanted at once."""
        if self._time is not None:
            self._time.ask(now)

    def orders(self, now: Moment, *, floor_ms: int) -> tuple[bytes, ...]:
        """What is to be sent to the watcher, which is there."""
        if self._time is not None:
            self._keep(self._time.step(now, floor_ms=floor_ms))
        orders, self._orders = tuple(self._orders), []
        return orders

    def hear(self, carried: Carried, now: Moment, *, floor_ms: int) -> None:
        """What the watcher carried.  now: read after it came."""
        if self._time is not None:
            self._keep(self._time.hear(carried, now, floor_ms=floor_ms))

    def best(self, host: TimeAnchor | None, now: Moment) -> TimeAnchor | None:
        """The anchor to go by.  host: the newest stamp of a trusted host."""
        return best(self.network, host, now)

    def findings(self, host: TimeAnchor | None, now: Moment) -> tuple[Finding, ...]:
        """What is to be said of the time; the same from turn to turn."""
        if self._time is None:
            return ()
        found, network = self._time.findings(), self._time.anchor
        if network is None or host is None or not (counts(network, now) and counts(host, now)):
            return found
        return (*found, *host_differs(network, host))

    def descriptors(self) -> tuple[int, ...]:
        """Readable when orders has something to say."""
        return () if self._time is None else self._time.descriptors()

    def wait_ms(self, now: Moment, otherwise: int) -> int:
        """For so long there is nothing to send, unless something comes; at most otherwise."""
        return otherwise if self._time is None else min(otherwise, self._time.wait_ms(now))

    def lost(self) -> None:
        """The watcher is gone."""
        self._orders.clear()
        if self._time is not None:
            self._time.lost()

    def close(self) -> None:
        """Ends what is under way: before the end of this program, and before another takes its place."""
        self._orders.clear()
        if self._time is not None:
            self._time.close()

    def _keep(self, orders: tuple[object, ...]) -> None:
        self._orders += (canonical.encode(order) for order in orders)
        del self._orders[:-_ORDERS]
