# SPDX-License-Identifier: Apache-2.0
import os
import time

import pytest

from vmwarden.errors import CommandFailed
from vmwarden.linux.process import ENVIRONMENT, run


def test_input_output_and_status() -> None:
    data = os.urandom(300_000)
    done = run(["cat"], timeout_s=10, input=data)
    assert (done.argv, done.returncode, done.stdout, done.stderr) == (("cat",), 0, data, b"")
    done = run(["sh", "-c", "echo no >&2; exit 3"], timeout_s=10, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"no\n")


def test_a_failure_says_what_the_program_said() -> None:
    with pytest.raises(CommandFailed, match="status 3: no such luck"):
        run(["sh", "-c", "echo no such luck >&2; exit 3"], timeout_s=10)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="cannot be started"):
        run(["/no/such/program"], timeout_s=1)


def test_nothing_of_the_environment_is_inherited() -> None:
    os.environ["VMWARDEN_TEST_SECRET"] = "1"
    try:
        done = run(["env"], timeout_s=10)
    finally:
        del os.environ["VMWARDEN_TEST_SECRET"]
    inherited = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert {name: inherited[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert set(inherited) <= {*ENVIRONMENT, "PWD", "_", "SHLVL"}


def test_standard_input_is_not_ours() -> None:
    assert run(["cat"], timeout_s=5).stdout == b""


def test_too_slow_is_killed_with_its_children() -> None:
    started = time.monotonic()
    with pytest.raises(CommandFailed, match="still running"):
        run(["sh", "-c", "sleep 60 & sleep 60"], timeout_s=0.3)
    assert time.monotonic() - started < 10


def test_too_much_is_killed() -> None:
    with pytest.raises(CommandFailed, match="more than 1000 bytes"):
        run(["yes"], timeout_s=10, limit=1000)


def test_a_program_that_does_not_read_its_input() -> None:
    assert run(["true"], timeout_s=10, input=b"x" * 1_000_000).returncode == 0


def test_a_signal_is_a_negative_status() -> None:
    assert run(["sh", "-c", "kill -9 $$"], timeout_s=10, check=False).returncode == -9
