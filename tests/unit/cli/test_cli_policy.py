# SPDX-License-Identifier: Apache-2.0
"""vmwarden policy, from the command line to the files."""

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from vmwarden.cli import policy
from vmwarden.errors import BadSignature, FileAbsent, Malformed, TooLarge, UsageError, WrongAudience
from vmwarden.model.policy import Policy
from vmwarden.owner.schema import policy_schema
from vmwarden.rules import canonical, sshkey, sshsig, trust

EXAMPLE = Path(__file__).parents[3] / "examples" / "readme.yaml"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Path]:
    """A folder with three people's keys, the owners anna and ben (both have to sign), and a policy."""
    for name in ("anna", "ben", "cleo"):
        key = Ed25519PrivateKey.from_private_bytes(name[:1].encode() * 32)
        (tmp_path / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        line = sshkey.from_public_key(key.public_key()).line
        (tmp_path / f"{name}.pub").write_text(f"{line} {name}@desk\n")
    (tmp_path / "p.yaml").write_bytes(EXAMPLE.read_bytes())
    two = ("--key", "anna=anna.pub", "--key", "ben=ben.pub", "--policy-threshold", "2")
    with contextlib.chdir(tmp_path):
        _run("owners", "new", *two, "-o", "owners.json")
        yield tmp_path


def _run(*arguments: str) -> int:
    """As cli.main does, without its translation of errors into exit codes."""
    parser = argparse.ArgumentParser()
    policy.register(parser.add_subparsers())
    args = parser.parse_args(["policy", *arguments])
    return int(args.run(args))


def _json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert _run(*arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


def test_lint_tells_mistakes_of_all_files_and_exits_65(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "bad.yaml").write_text(
        (desk / "p.yaml").read_text().replace("version: 1", "version: 0\ncolour: red")
    )
    (desk / "worse.yaml").write_text("")
    told = _json(capsys, "lint", "p.yaml", "bad.yaml", "worse.yaml", code=65)
    assert [(e["file"], e["line"], e["column"], e["path"]) for e in told["errors"]] == [
        ("bad.yaml", 4, 10, "version"),
        ("bad.yaml", 5, 1, "colour"),
        ("worse.yaml", 1, 1, ""),
    ]
    assert set(told["errors"][0]) == {"file", "line", "column", "path", "message", "mend"}
    assert told["warnings"] == []
    assert _run("lint", "bad.yaml") == 65
    assert "bad.yaml:4:10: version: 0 is too small" in capsys.readouterr().out


def test_lint_with_warnings_only_is_fine(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "w.yaml").write_text(
        (desk / "p.yaml").read_text().replace("posture: quarantined", "posture: poweroff")
    )
    told = _json(capsys, "lint", "w.yaml")
    assert told["errors"] == []
    assert [w["path"] for w in told["warnings"]] == ["place.wrong.1.posture"]


def test_the_schema_is_printed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert _run("schema") == 0
    assert json.loads(capsys.readouterr().out) == policy_schema()


def test_from_yaml_to_a_policy_that_a_vm_takes(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sign", "p.yaml", "--key", "anna", "-o", "signed.json") == 0
    with pytest.raises(BadSignature, match="signed by anna: 1 of 2"):
        _run("verify", "signed.json", "--owners", "owners.json")
    assert _run("sign", "--add", "signed.json", "--key", "ben") == 0
    told = _json(capsys, "verify", "signed.json", "--owners", "owners.json", "--vm", "payments-1")
    assert told["signers"] == ["anna", "ben"]
    with pytest.raises(WrongAudience):
        _run("verify", "signed.json", "--owners", "owners.json", "--vm", "web-1")
    document = trust.read_signed((desk / "signed.json").read_bytes())
    owners = trust.read_owners((desk / "owners.json").read_bytes())
    taken = trust.accept_policy(document, owners=owners, vm="payments-1", floor=0, utc_ms=None)
    assert taken.name == "payments"


def test_a_signature_made_elsewhere_is_attached(
    desk: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    _run("sign", "p.yaml", "--key", "anna", "-o", "signed.json")
    capsysbinary.readouterr()
    _run("show", "signed.json", "--payload")
    payload = capsysbinary.readouterr().out
    assert canonical.decode(payload, Policy, limit=10_000, what="payload").version == 1
    ben = Ed25519PrivateKey.from_private_bytes(b"b" * 32)
    (desk / "payload.sig").write_text(sshsig.sign(ben, payload, "policy@vmwarden"))
    _run("sign", "--attach", "signed.json", "--signature", "payload.sig", "-o", "both.json")
    assert _run("verify", "both.json", "--owners", "owners.json") == 0
    assert len(trust.read_signed((desk / "signed.json").read_bytes()).signatures) == 1
    (desk / "payload.sig").write_text(sshsig.sign(ben, payload, "owners@vmwarden"))
    with pytest.raises(BadSignature):
        _run("sign", "--attach", "signed.json", "--signature", "payload.sig")


def test_the_payload_of_yaml_is_the_payload_that_gets_signed(
    desk: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    _run("sign", "p.yaml", "-o", "signed.json")
    payloads = []
    for file in ("p.yaml", "signed.json"):
        capsysbinary.readouterr()
        _run("show", file, "--payload")
        payloads.append(capsysbinary.readouterr().out)
    assert payloads[0] == payloads[1] != b""


def test_what_has_mistakes_is_not_signed(desk: Path) -> None:
    (desk / "p.yaml").write_text((desk / "p.yaml").read_text().replace("country: DE", "country: ZZ"))
    with pytest.raises(Malformed) as caught:
        _run("sign", "p.yaml", "--key", "anna", "-o", "signed.json")
    assert [problem.path for problem in caught.value.problems] == ["place.any_of.0.country"]
    assert not (desk / "signed.json").exists()


def test_warnings_are_told_on_signing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "p.yaml").write_text((desk / "p.yaml").read_text().replace("quarantined", "poweroff"))
    assert _run("sign", "p.yaml", "--key", "anna", "-o", "signed.json") == 0
    assert "warning: p.yaml:15:29: place.wrong.1.posture" in capsys.readouterr().err


def test_a_key_with_a_passphrase(desk: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
    (desk / "anna").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    (desk / "passphrase").write_text("secret\n")
    assert (
        _run("sign", "p.yaml", "--key", "anna", "--passphrase-file", "passphrase", "-o", "signed.json") == 0
    )
    with pytest.raises(UsageError, match="passphrase"):  # nobody sits at the terminal of a test
        _run("sign", "p.yaml", "--key", "anna", "-o", "signed.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("sign",),
        ("sign", "p.yaml"),
        ("sign", "p.yaml", "--add", "x.json", "-o", "y.json"),
        ("sign", "--add", "x.json", "--attach", "y.json"),
        ("sign", "--add", "signed.json"),
        ("owners", "new", "--key", "anna.pub", "-o", "o.json"),
        ("owners", "rotate", "--current", "owners.json", "-o", "o.json"),
        ("diff", "owners-signed.json", "p.yaml"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(desk: Path, arguments: tuple[str, ...]) -> None:
    _run("sign", "p.yaml", "--key", "anna", "-o", "signed.json")
    _run(
        "owners", "rotate", "--current", "owners.json", "--policy-threshold", "1", "-o", "owners-signed.json"
    )
    with pytest.raises(UsageError):
        _run(*arguments)


def test_files_that_are_not_there_or_not_what_they_should_be(desk: Path) -> None:
    (desk / "huge.json").write_bytes(b'{"format":"vmwarden.signed/1","payload":' + b" " * trust.SIGNED_BYTES)
    (desk / "torn.json").write_bytes(b'{"format":"vmwarden.signed/1","payload":"{}","signatures":[]')
    for file, error in (("none.yaml", FileAbsent), ("huge.json", TooLarge), ("torn.json", Malformed)):
        with pytest.raises(error):
            _run("show", file)
    with pytest.raises(FileAbsent):
        _run("lint", "none.yaml")


def test_owners_change_with_the_old_and_the_new(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rotate = ("owners", "rotate", "--current", "owners.json", "--remove", "ben", "--add-key", "cleo=cleo.pub")
    _run(*rotate, "--owners-threshold", "2", "--key", "anna", "-o", "next.json")
    with pytest.raises(BadSignature, match="the new owners: signed by anna"):
        _run("verify", "next.json", "--owners", "owners.json")
    _run("sign", "--add", "next.json", "--key", "cleo")
    told = _json(capsys, "verify", "next.json", "--owners", "owners.json")
    assert (told["title"], told["signers"]) == ("owners version 2", ["anna", "cleo"])
    assert "cleo" in _shown(capsys, "next.json")


def _shown(capsys: pytest.CaptureFixture[str], file: str) -> str:
    capsys.readouterr()
    assert _run("show", file) == 0
    return capsys.readouterr().out


def test_show_says_who_signed_and_not_that_this_is_enough(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("sign", "p.yaml", "--key", "cleo", "-o", "signed.json")
    text = _shown(capsys, "signed.json")
    key = sshkey.parse((desk / "cleo.pub").read_text())
    assert key.fingerprint in text and "policy verify" in text
    assert "Signed by" not in _shown(capsys, "p.yaml")


def test_diff_of_yaml_and_signed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("sign", "p.yaml", "-o", "signed.json")
    assert _json(capsys, "diff", "signed.json", "p.yaml")["changes"] == []
    (desk / "q.yaml").write_text((desk / "p.yaml").read_text().replace("mode: enforce", "mode: observe"))
    assert _json(capsys, "diff", "signed.json", "q.yaml")["changes"] == [
        {"path": "mode", "old": "enforce", "new": "observe", "direction": "looser"}
    ]


def test_a_table_behind_a_link_that_leads_out_is_not_read(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = desk / "policies"
    folder.mkdir()
    (desk / "outside.yaml").write_text("- {zone: a, country: DE}\n")
    (folder / "inside.yaml").write_text("- {zone: a, country: DE}\n")
    (folder / "link.yaml").symlink_to(desk / "outside.yaml")
    (folder / "circle.yaml").symlink_to(folder / "circle.yaml")
    text = (desk / "p.yaml").read_text()
    for name, code in (("inside.yaml", 0), ("link.yaml", 65), ("circle.yaml", 65), (".", 65)):
        (folder / "p.yaml").write_text(text.replace("trust:\n", f"trust:\n  facilities: {name}\n"))
        told = _json(capsys, "lint", "policies/p.yaml", code=code)
        assert [(e["path"], e["line"]) for e in told["errors"]] == (
            [("trust.facilities", 17)] if code else []
        )
