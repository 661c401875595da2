# SPDX-License-Identifier: Apache-2.0
"""What the second layer costs an open packet besides the first, and what keeping it costs the warden.

As benchmarks.gate_overhead: paired rounds, but before is the first layer alone, open, and after is both.

    python -m benchmarks --only second_layer --rounds 40     (root)
"""

import select
import statistics
import time
from collections.abc import Callable

from benchmarks.figure import Figure, median_interval
from benchmarks.gate_overhead import measure, policy
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection
from vmwarden.model.link import Link
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.testing.network import Lan, lan

_RENEWALS = 300
_PLUGS = 12


def run(rounds: int) -> list[Figure]:
    """Latency and throughput of both layers over those of one; time to renew, and to gate a new device."""
    with lan() as network, network.vm.entered():
        gate, layer = NftGate(), SecondLayer(stands_in=_stands_in)
        try:
            gate.install(policy())
            gate.lease(LONGEST_LEASE_MS)  # the connections that are measured are made before the first round

            def one() -> None:
                layer.remove()
                gate.lease(LONGEST_LEASE_MS)

            def both() -> None:
                gate.lease(LONGEST_LEASE_MS)
                layer.install(policy())
                layer.lease(LONGEST_LEASE_MS)

            found = measure(network, one, both, rounds)
            both()
            kept = [*_renewals(layer, gate), _plugged(network, layer)]
        finally:
            layer.remove()
            gate.remove()
    added = median_interval([after - before for before, after in found.near.pairs()])
    slower, near, share = found.latency.ratios(), found.near.ratios(), found.throughput.ratios()
    return [
        Figure(
            "both layers: UDP round trip over one layer",
            slower.median,
            "ratio",
            detail=found.latency.detail(slower, "us"),
        ),
        Figure(
            "both layers: TCP throughput over one layer",
            share.median,
            "ratio",
            detail=found.throughput.detail(share, "Gbit/s"),
        ),
        Figure(
            "both layers: UDP round trip on one CPU over one layer",
            near.median,
            "ratio",
            detail=found.near.detail(near, "us") + f"; two packets cost {added} us more",
        ),
        *kept,
    ]


def _renewals(layer: SecondLayer, gate: NftGate) -> list[Figure]:
    """One layer's transaction, and that of both together: over a permit of this connection."""
    gate.close()
    connection = Connection()
    nft.make_alive(connection, owned=True)
    alone = _median_ms(lambda: nft.renew(connection, LONGEST_LEASE_MS, guarded=False))

    def renew_both() -> None:
        first = nft.renewal(LONGEST_LEASE_MS, guarded=False)
        connection.commit([*first, *layer.renewal(LONGEST_LEASE_MS, guarded=False)], what="both")

    together = _median_ms(renew_both)
    looked = _median_ms(lambda: layer.installed() or None)
    mended = _median_ms(layer.mend)
    connection.close()
    return [
        Figure("renewal of both layers in one transaction", together, "ms", detail=f"of one {alone:.3f} ms"),
        Figure("second layer: are the rules ours?", looked, "ms"),
        Figure("second layer: a look at every device", mended, "ms"),
    ]


def _median_ms(act: Callable[[], object]) -> float:
    taken = []
    for _ in range(_RENEWALS):
        start = time.perf_counter()
        act()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def _plugged(network: Lan, layer: SecondLayer) -> Figure:
    """From the kernel's word that a device is there until it is gated."""
    taken = []
    layer.link_event()
    for number in range(_PLUGS):
        name = f"new{number}"
        there = network.peer.name
        network.vm.run("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", there)
        select.select([layer.fileno()], [], [], 2)
        start = time.perf_counter()
        layer.link_event()
        taken.append((time.perf_counter() - start) * 1000)
    detail = f"worst of {_PLUGS} {max(taken):.2f} ms, with 1 to {_PLUGS} others"
    return Figure("link event -> device gated", statistics.median(taken), "ms", detail=detail)


def _stands_in(link: Link) -> bool:
    return link.kind == "veth" and link.name != "eth1"
