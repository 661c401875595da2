# SPDX-License-Identifier: Apache-2.0
"""python -m tests.fuzz TARGET INPUT: once more what a failing test names."""

import base64
import sys
import zlib

from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target, packed = sys.argv[1:3]
    TARGETS[target].run(zlib.decompress(base64.b85decode(packed)))
