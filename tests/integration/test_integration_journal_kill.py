# SPDX-License-Identifier: Apache-2.0
"""store.journal under SIGKILL: what was acknowledged stands, and nothing is taken for damage."""

import random
import subprocess
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.model.moment import Moment
from vmwarden.store import journal_reader
from vmwarden.store.journal import open_journal

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOW = Moment(boot_ms=5, utc_ms=1_790_000_000_000, boot_id="b")
KILLS = 12
#: some 60 records fill a segment, so that sealing is hit too
SEGMENT_BYTES = 262_144

WRITER = f"""
import sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vmwarden.model.moment import Moment
from vmwarden.store.journal import open_journal
now = Moment(boot_ms=5, utc_ms=1_790_000_000_000, boot_id="b")
journal, findings = open_journal(
    Path(sys.argv[1]), signer=Ed25519PrivateKey.from_private_bytes(bytes(32)), vm="web-1", now=now,
    segment_bytes={SEGMENT_BYTES}, keep_segments=3, keep_every=8,
)
assert findings == (), findings
while True:
    made = journal.append("event", {{"detail": "x" * 3000}}, now)
    print(made.seq, flush=True)
"""


def test_killed_at_any_point(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    rng = random.Random(20261123)
    acknowledged = 0
    for _ in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        assert writer.stderr is not None
        first = writer.stdout.readline()
        time.sleep(rng.random() * 0.15)
        writer.kill()
        rest, errors = writer.communicate(timeout=20)
        assert first, errors
        lines = [line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = max(acknowledged, int(lines[-1]))
        journal_reader.verify(path, key=KEY.public_key())
        journal, findings = open_journal(
            path, signer=KEY, vm="web-1", now=NOW, segment_bytes=SEGMENT_BYTES, keep_segments=3
        )
        size = journal.head()[0]
        journal.close()
        assert findings == ()
        # the record under way when the kill came may stand or not, and a sealing writes one more
        assert acknowledged + 1 <= size <= acknowledged + 3
    verified = journal_reader.verify(path, key=KEY.public_key())
    assert len(verified) >= 2, "sealing was not reached: the test is too short"
    assert verified[-1].size >= acknowledged + 1
