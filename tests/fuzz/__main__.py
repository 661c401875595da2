# SPDX-License-Identifier: Apache-2.0
"""Once more what a failing test names: python -m tests.fuzz TARGET INPUT, or SCENARIO SEED ROUNDS."""

import base64
import sys
import zlib

from tests.fuzz.scenarios import SCENARIOS, play
from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name, *given = sys.argv[1:]
    if name in TARGETS:
        TARGETS[name].run(zlib.decompress(base64.b85decode(given[0])))
    else:
        scenario = next(one for one in SCENARIOS if one.name == name)
        play(scenario, seed=int(given[0]), rounds=int(given[1]))
