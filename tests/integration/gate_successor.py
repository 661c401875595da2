# SPDX-License-Identifier: Apache-2.0
"""A process that holds both layers of the gate and starts itself again, in itself, for each line it reads:
python -m tests.integration.gate_successor LEASE

LEASE: milliseconds, 0 = it holds the gate closed.  Prints the number of the program's life and the process's
number after each start.
"""

import os
import sys

from tests.integration.gate_policy import gate_policy, uids
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.linux import successor
from vmwarden.model.handover import HANDOVER_BYTES, GateHandover
from vmwarden.rules import canonical

_LIFE = "GATE_SUCCESSOR_LIFE"


def main() -> None:
    lease_ms = int(sys.argv[1])
    life = int(os.environ.get(_LIFE, "0"))
    gate = NftGate(uids, second=SecondLayer(uids, stands_in=lambda link: link.name == "eth0"))
    word, _ = successor.inherited(HANDOVER_BYTES)
    if word:
        gate.take_over(canonical.decode(word, GateHandover, limit=HANDOVER_BYTES, what="word"))
    gate.install(gate_policy())
    assert gate.installed()
    if lease_ms:
        gate.lease(lease_ms)
    print(life, os.getpid(), flush=True)
    if not sys.stdin.readline():
        return
    os.environ[_LIFE] = str(life + 1)
    left = gate.hand_over()
    assert left is not None
    kept = [left.connection] if left.keeper is None else [left.connection, left.keeper]
    successor.become(canonical.encode(left), keeping=kept)


if __name__ == "__main__":
    main()
