# SPDX-License-Identifier: Apache-2.0
"""enrol, apply, confirm, purge as commands: real clock, processes and terminals, below one root."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vmwarden.cli.main import main
from vmwarden.model.policy import Policy, Valid
from vmwarden.model.signed import PURGE_NAMESPACE, SignedDocument
from vmwarden.rules import canonical, sshsig
from vmwarden.store import unrecorded
from vmwarden.store.layout import Layout
from vmwarden.testing.owners import private_key
from vmwarden.testing.state import OWNERS, VM, file, policy

ALWAYS = Valid(from_="2000-01-01T00:00Z", until="9000-01-01T00:00Z")
TIMEOUT_S = 60.0


def will(version: int, *, observe: bool = False) -> Policy:
    return msgspec.structs.replace(policy(version, "observe" if observe else "enforce"), valid=ALWAYS)


class Vm:
    """One VM below a folder, and the documents that its owners sent."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = folder / "root"
        self.state = self.root / "var/lib/vmwarden"
        self._capsys = capsys
        self.folder = folder
        self.owners = self.write("owners.json", canonical.encode(OWNERS))
        self.five = self.write("five.json", file(will(5)))
        self.six = self.write("six.json", file(will(6, observe=True)))

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def run(self, *argv: str) -> tuple[int, str, str]:
        code = main([*argv, "--root", str(self.root)])
        out, err = self._capsys.readouterr()
        return code, out, err

    def enrol(self) -> None:
        assert self.run("enrol", "--vm", VM, "--owners", self.owners)[0] == 0

    def on_a_terminal(self, *commands: tuple[str, ...]) -> str:
        """What one terminal session shows that runs these commands."""
        lines = [
            shlex.join([sys.executable, "-m", "vmwarden.cli.main", *command, "--root", str(self.root)])
            + "; echo exit $?"
            for command in commands
        ]
        done = subprocess.run(
            ["script", "--quiet", "--return", "--command", "; ".join(lines), "/dev/null"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
            timeout=TIMEOUT_S,
            check=True,
        )
        return done.stdout.decode()


@pytest.fixture
def vm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Vm:
    return Vm(tmp_path, capsys)


def test_enrol_tells_name_and_key(vm: Vm) -> None:
    code, out, _ = vm.run("enrol", "--vm", VM, "--owners", vm.owners, "--generation", "2", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["schema"], document["vm"], document["generation"]) == ("vmwarden.enrol/1", VM, 2)
    assert document["identity"].startswith("SHA256:")
    assert document["warden_informed"] is False
    code, out, _ = vm.run("enrol", "--renew", "--json")
    assert (code, json.loads(out)["generation"]) == (0, 3)
    assert json.loads(out)["identity"] != document["identity"]


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("enrol",), 64, "--vm NAME"),
        (("enrol", "--vm", VM), 64, "--owners FILE"),
        (("enrol", "--renew", "--vm", VM), 64, "leave out --vm"),
        (("apply",), 64, "required"),
        (("apply", "FIVE", "--revert"), 64, "not allowed"),
        (("apply", "FIVE"), 64, "not enrolled"),
        (("apply", "OWNERS"), 65, "signed document"),
        (("confirm",), 64, "nothing waits"),
        (("purge", "--request"), 64, "no enrolment"),
        (("purge", "--order", "FIVE"), 65, "owners.json"),
    ],
)
def test_what_does_not_go_says_why(vm: Vm, argv: tuple[str, ...], code: int, message: str) -> None:
    files = {"FIVE": vm.five, "OWNERS": vm.owners}
    seen, _, err = vm.run(*(files.get(word, word) for word in argv))
    assert seen == code
    assert message in err


def test_apply_and_apply_again(vm: Vm) -> None:
    vm.enrol()
    code, out, _ = vm.run("apply", vm.five, "--json")
    assert code == 0
    assert [change["kind"] for change in json.loads(out)["changes"]] == [
        "policy.applied",
        "policy.confirmed",
        "vm.armed",
    ]
    assert (vm.state / "closed.nft").read_text().startswith("#")
    assert vm.run("apply", vm.five)[1] == "nothing to do: it is in force already\n"
    assert vm.run("apply", vm.five, "--confirm-within", "soon")[0] == 65
    code, _, err = vm.run("apply", vm.write("four", file(will(4))))
    assert (code, "already seen 5" in err) == (65, True)


def test_a_trial_is_taken_back(vm: Vm) -> None:
    vm.enrol()
    vm.run("apply", vm.five)
    code, out, _ = vm.run("apply", vm.six, "--confirm-within", "2m")
    assert (code, "on trial for 120 s" in out) == (0, True)
    code, out, _ = vm.run("apply", "--revert")
    assert (code, "taken back: asked for" in out) == (0, True)
    assert (vm.state / "policy.signed.json").read_bytes() == file(will(5))


def test_confirm_needs_another_terminal_session(vm: Vm) -> None:
    vm.enrol()
    seen = vm.on_a_terminal(("apply", vm.five, "--confirm-within", "2m"), ("confirm",))
    assert "exit 0" in seen
    assert "this is the terminal session in which the policy was applied" in seen
    assert "exit 64" in seen
    assert (vm.state / "pending.json").exists()
    seen = vm.on_a_terminal(("confirm",))
    assert "policy payments version 5 (enforce) confirmed" in seen
    assert not (vm.state / "pending.json").exists()
    assert (vm.state / "armed").exists()


def test_the_way_to_an_image(vm: Vm) -> None:
    vm.enrol()
    vm.run("apply", vm.five)
    assert vm.run("image", "prepare")[0] == 64
    code, out, _ = vm.run("purge", "--request")
    assert code == 0
    request = msgspec.json.decode(out, type=SignedDocument)
    signatures = tuple(
        sshsig.sign(private_key(name), request.payload.encode(), PURGE_NAMESPACE) for name in ("ada", "bob")
    )
    order = vm.write(
        "order.json", canonical.encode(SignedDocument(payload=request.payload, signatures=signatures))
    )
    assert vm.run("apply", order)[0] == 65
    unsigned = vm.write("unsigned.json", out.encode())
    assert vm.run("image", "prepare", "--purge-order", unsigned)[0] == 65
    code, out, _ = vm.run("image", "prepare", "--purge-order", order)
    assert (code, out.splitlines()[-1]) == (0, "removed enrolment.json")
    assert [path.name for path in vm.state.iterdir()] == ["lock"]
    assert (vm.root / "etc/vmwarden/owners.json").exists()
    vm.run("enrol", "--vm", VM)
    # the order was for the life that ended
    code, _, err = vm.run("purge", "--order", order)
    assert (code, "the order is for payments-1 generation 1" in err) == (65, True)


def test_what_commands_did_waits_for_the_journal(vm: Vm) -> None:
    vm.enrol()
    vm.run("apply", vm.five)
    waiting = unrecorded.peek(Layout.below(vm.root))
    assert [change.kind for change in waiting] == [
        "vm.enrolled",
        "policy.applied",
        "policy.confirmed",
        "vm.armed",
    ]


def test_purge_ends_a_life(vm: Vm) -> None:
    vm.enrol()
    vm.run("apply", vm.five)
    request = msgspec.json.decode(vm.run("purge", "--request")[1], type=SignedDocument)
    signatures = tuple(
        sshsig.sign(private_key(name), request.payload.encode(), PURGE_NAMESPACE) for name in ("bob", "cyd")
    )
    order = vm.write("order.json", canonical.encode(msgspec.structs.replace(request, signatures=signatures)))
    code, out, _ = vm.run("purge", "--order", order)
    assert (code, out.startswith("payments-1 generation 1 is no more")) == (0, True)
    assert not (vm.state / "armed").exists()
    assert vm.run("confirm")[0] == 64
