# SPDX-License-Identifier: Apache-2.0
"""A process that holds the gate open until it is killed: python -m tests.integration.gate_holder LEASE PERIOD

Prints "open" once the first lease runs.  Milliseconds both.
"""

import sys
import time

from tests.integration.gate_policy import gate_policy, nft_gate


def main() -> None:
    lease_ms, period_ms = int(sys.argv[1]), int(sys.argv[2])
    gate = nft_gate()
    gate.install(gate_policy())
    gate.lease(lease_ms)
    print("open", flush=True)
    while True:
        time.sleep(period_ms / 1000)
        gate.lease(lease_ms)


if __name__ == "__main__":
    main()
