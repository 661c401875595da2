# SPDX-License-Identifier: Apache-2.0
"""Warden, watcher and TLS as processes beside real time servers: whose word opens a slot."""

import datetime
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testbed.provision import Desk, vmwarden
from tests.integration.test_integration_programs import Running
from tests.integration.test_network_time import HONEST, LIARS, NOBODY, Bed, bed
from vmwarden.model.time_servers import TimeServer
from vmwarden.rules import instant

__all__ = ["bed"]
pytestmark = pytest.mark.root

POLICY = """\
format: vmwarden.policy/1
name: trusted
version: 1
vms: ["*"]
valid: {{from: "2026-01-01T00:00Z", until: "2036-01-01T00:00Z"}}
mode: observe
hours: {{open: [{{times: [{{start_time: "{start}", end_time: "{end}"}}]}}], time: trusted, recheck: 60s}}
trust:
  time: {time}
"""
#: loading everything, key establishment with three servers, a round
SOON_S = 20.0


@contextmanager
def running(bed: Bed, folder: Path, servers: Sequence[str | TimeServer]) -> Iterator[Running]:
    """Observing in the network of the servers, in a slot that began an hour ago and needs trusted time."""
    desk, root = Desk(folder / "desk"), folder / "vm"
    root.mkdir(mode=0o700)
    trusted = bed.trusted(*servers)
    listed = [
        {"name": server.name, "address": server.address, "port": server.port} for server in trusted.servers
    ]
    hour = datetime.timedelta(hours=1)
    start, end = (f"{datetime.datetime.now(datetime.UTC) + by:%H:%M}" for by in (-hour, hour))
    text = POLICY.format(
        start=start, end=end, time=json.dumps({"servers": listed, "authorities": list(trusted.authorities)})
    )
    vmwarden("enrol", "--root", root, "--vm", desk.vm, "--owners", desk.owners())
    vmwarden("apply", "--root", root, desk.policy(version=1, text=text))
    with bed.network.vm.entered():
        run = Running(root, "--user", "root")
    try:
        yield run
    finally:
        run.close()


def findings(status: dict[str, Any]) -> set[str]:
    told = [*status["decision"]["findings"]]
    for verdict in status["decision"]["verdicts"]:
        told += verdict["findings"]
    return {finding["id"] for finding in told}


@pytest.mark.parametrize("servers", [HONEST, (*HONEST, LIARS[0])], ids=["three", "and a liar"])
def test_a_slot_is_open_once_enough_servers_agree(bed: Bed, tmp_path: Path, servers: tuple[str, ...]) -> None:
    with running(bed, tmp_path, servers) as run:
        run.wait("would take posture open: allow", SOON_S)
        status: dict[str, Any] = run.status()
        assert status["posture"] == "open"
        assert abs(instant.milliseconds(status["trusted_time"]) - time.time() * 1000) < 2_000


def test_no_slot_is_open_while_too_few_servers_answer(bed: Bed, tmp_path: Path) -> None:
    with running(bed, tmp_path, (HONEST[0], *NOBODY)) as run:
        run.wait("time.no-quorum", SOON_S)
        time.sleep(5)  # the one that answers has been heard
        status: dict[str, Any] = run.status()
        assert status["decision"]["answer"] == "unknown"
        assert status["posture"] == "held"
        assert "trusted_time" not in status
        assert "time.no-quorum" in findings(status)
