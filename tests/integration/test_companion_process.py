# SPDX-License-Identifier: Apache-2.0
"""vmwarden companion serve as a process: facts read again on SIGHUP, an orderly end on SIGTERM."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmwarden.channels.unix import UnixSocket
from vmwarden.cli.main import main
from vmwarden.errors import ChannelDown
from vmwarden.linux.stream import Stream
from vmwarden.model.statement import (
    STATEMENT_BYTES,
    STATEMENT_TYPE,
    Audience,
    Challenge,
    HostStatement,
    StatementReply,
)
from vmwarden.rules import canonical, jws, sshkey

LIMIT_S = 20.0


@contextmanager
def companion(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "vmwarden.cli.main", "companion", "serve", *arguments]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=LIMIT_S)


def opened(path: Path) -> Stream:
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return UnixSocket(path).open()
        except ChannelDown:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def asked(channel: Stream, key: str, nonce: str) -> HostStatement:
    channel.send(canonical.encode(Challenge(aud=Audience(vm="web-1", generation=1), nonce=nonce * 43)))
    end = time.monotonic() + LIMIT_S
    messages: tuple[bytes, ...] = ()
    while not messages and time.monotonic() < end:
        messages = channel.receive()
        time.sleep(0.01)
    token = canonical.decode(messages[0], StatementReply, limit=16384, what="reply").jws
    public = sshkey.parse(key)
    payload, _ = jws.verify(token, {public.fingerprint: public}, STATEMENT_TYPE, STATEMENT_BYTES)
    return canonical.decode(payload, HostStatement, limit=STATEMENT_BYTES, what="statement")


def test_a_companion_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, facts, path = tmp_path / "key", tmp_path / "facts.json", tmp_path / "web-1.sock"
    assert main(["companion", "keygen", "-o", str(key)]) == 0
    public = capsys.readouterr().out.strip()
    facts.write_text('{"host_id":"h","country":"DE"}')
    arguments = ("--key", str(key), "--facts", str(facts), "--vm", "web-1", "--socket", str(path), "--listen")
    with companion(*arguments) as process:
        channel = opened(path)
        assert asked(channel, public, "a").country == "DE"
        facts.write_text('{"host_id":"h","country":"NL"}')
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + LIMIT_S
        while asked(channel, public, "b").country != "NL":
            assert time.monotonic() < end
        channel.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_S) == 0
        assert not path.exists()
    with companion(*arguments):  # and a second life on the same path
        channel = opened(path)
        assert asked(channel, public, "c").country == "NL"
        channel.close()
