# SPDX-License-Identifier: Apache-2.0
"""What the two programs that stay have loaded: each module is memory for as long as the VM runs."""

import subprocess
import sys

import pytest

#: hashlib and ssl load the system's OpenSSL (rules/sha2.py); the others are for owners, or for nobody here
HEAVY = {"asyncio", "email", "hashlib", "http.client", "json", "logging", "ssl", "vmwarden.owner", "yaml"}
#: loaded for those alone who list time servers
ON_DEMAND = {"vmwarden.linux.tls_session", "vmwarden.warden.network_time"}


@pytest.mark.parametrize("program", ["vmwarden.warden.program", "vmwarden.watcher.start"])
def test_no_program_that_stays_loads_what_it_can_do_without(program: str) -> None:
    asked = f"import {program}, sys\nfor name in sys.modules: print(name)"
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True
    )
    before = subprocess.run(
        [sys.executable, "-c", "import sys\nfor name in sys.modules: print(name)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stdout.split()) - set(before.stdout.split())
    assert program in loaded
    assert sorted(loaded & (HEAVY | ON_DEMAND)) == []
