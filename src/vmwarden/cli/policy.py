# SPDX-License-Identifier: Apache-2.0
"""vmwarden policy: the owner's desk."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vmwarden.cli.render import emit, json_option, printable, table
from vmwarden.errors import Problem, UsageError

if TYPE_CHECKING:
    from vmwarden.model.signed import SignedDocument
    from vmwarden.owner.desk import Opened

EXIT_FINE = 0
EXIT_BAD_INPUT = 65

_LINT = "vmwarden.policy-lint/1"
_SIGN = "vmwarden.policy-sign/1"
_VERIFY = "vmwarden.policy-verify/1"
_SHOW = "vmwarden.policy-show/1"
_DIFF = "vmwarden.policy-diff/1"
_OWNERS = "vmwarden.policy-owners/1"

#: bound on a passphrase file and on a .pub file, bytes
_LINE_BYTES = 4096


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser(
        "policy", help="write, check and sign policies (the owner's desk)", description=__doc__
    )
    verbs = group.add_subparsers(dest="verb", metavar="VERB", required=True)

    lint = verbs.add_parser("lint", help="every mistake of a policy at once, with line and mend")
    lint.add_argument("files", nargs="+", metavar="FILE", help="policy in YAML")
    lint.set_defaults(run=run_lint)

    schema = verbs.add_parser("schema", help="JSON Schema of a policy file, for editors")
    schema.set_defaults(run=run_schema)

    sign = verbs.add_parser(
        "sign",
        help="sign a policy, or add a signature",
        description="Sign a policy (FILE), or put one more signature on what is signed already (--add, "
        "--attach; also owners and orders to purge).",
    )
    sign.add_argument("file", nargs="?", metavar="FILE", help="policy in YAML; checked first")
    sign.add_argument("--add", metavar="SIGNED", help="signed document that gets one more signature")
    sign.add_argument(
        "--attach", metavar="SIGNED", help="signed document that gets a signature made elsewhere"
    )
    _key_options(sign)
    sign.add_argument(
        "--signature",
        action="append",
        default=[],
        metavar="FILE.sig",
        help="signature by ssh-keygen -Y sign over what `policy show --payload` prints",
    )
    sign.add_argument(
        "-o", "--out", metavar="OUT", help="where to write; with --add and --attach: SIGNED itself"
    )
    sign.set_defaults(run=run_sign)

    verify = verbs.add_parser("verify", help="would a VM of these owners take this document?")
    verify.add_argument("signed", metavar="SIGNED", help="signed policy, or signed successor of the owners")
    verify.add_argument("--owners", required=True, metavar="FILE", help="owners.json of the VM")
    verify.add_argument("--vm", metavar="NAME", help="name under which the VM is enrolled")
    verify.set_defaults(run=run_verify)

    show = verbs.add_parser("show", help="what a policy means, in plain words, with all defaults")
    show.add_argument("file", metavar="FILE", help="policy in YAML, or anything signed")
    show.add_argument("--payload", action="store_true", help="print the exact bytes that are signed")
    show.set_defaults(run=run_show)

    diff = verbs.add_parser("diff", help="what changes from one policy to another")
    diff.add_argument("old", metavar="OLD", help="policy in YAML, or signed")
    diff.add_argument("new", metavar="NEW", help="policy in YAML, or signed")
    diff.set_defaults(run=run_diff)

    for parser in (lint, schema, sign, verify, show, diff, *_register_owners(verbs)):
        json_option(parser)
        parser.set_defaults(run=_at_the_desk(parser.get_default("run")))


def _at_the_desk(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """run, where what a VM need not have is installed."""

    def guarded(args: argparse.Namespace) -> int:
        missing = [name for name in ("ruamel", "jsonschema") if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(f"{', '.join(missing)} is not installed: pip install 'vmwarden[owner]'")
        return run(args)

    return guarded


def _register_owners(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> tuple[argparse.ArgumentParser, ...]:
    group = verbs.add_parser("owners", help="who has to sign: owners.json and its successors")
    acts = group.add_subparsers(dest="act", metavar="ACT", required=True)

    new = acts.add_parser("new", help="the first owners.json")
    new.add_argument(
        "--key", action="append", required=True, metavar="NAME=PUBFILE", help="a person's .pub file"
    )
    new.set_defaults(run=run_owners_new)

    rotate = acts.add_parser("rotate", help="a successor, to be signed by the old and by the new threshold")
    rotate.add_argument("--current", required=True, metavar="FILE", help="owners.json in force")
    rotate.add_argument(
        "--add-key", action="append", default=[], metavar="NAME=PUBFILE", help="a person who joins"
    )
    rotate.add_argument(
        "--remove",
        action="append",
        default=[],
        metavar="NAME",
        help="a person who leaves, or gets another key",
    )
    _key_options(rotate)
    rotate.set_defaults(run=run_owners_rotate)

    for parser in (new, rotate):
        parser.add_argument(
            "--policy-threshold", type=int, metavar="K", help="how many have to sign a policy"
        )
        parser.add_argument(
            "--owners-threshold", type=int, metavar="K", help="how many have to sign a successor"
        )
        parser.add_argument("-o", "--out", required=True, metavar="OUT", help="where to write")
    return new, rotate


def _key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="PRIVATE",
        help="private key file to sign with; or a .pub file, whose private half is in ssh-agent",
    )
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="first line: the passphrase of the private keys"
    )


def run_lint(args: argparse.Namespace) -> int:
    from vmwarden.owner import desk

    reports = [desk.check(file) for file in args.files]
    errors = [problem for report in reports for problem in report.errors]
    warnings = [problem for report in reports for problem in report.warnings]
    lines = [f"error    {problem}" for problem in errors]
    lines += [f"warning  {problem}" for problem in warnings]
    lines.append(f"{len(errors)} error(s), {len(warnings)} warning(s)")
    document = {"schema": _LINT, "errors": _plain(errors), "warnings": _plain(warnings)}
    emit(args, document, "\n".join(lines))
    return EXIT_BAD_INPUT if errors else EXIT_FINE


def run_schema(args: argparse.Namespace) -> int:
    from vmwarden.owner.schema import policy_schema

    schema = policy_schema()
    emit(args, schema, msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
    return EXIT_FINE


def run_sign(args: argparse.Namespace) -> int:
    from vmwarden.owner import desk, signing
    from vmwarden.rules import trust

    given = [name for name in (args.file, args.add, args.attach) if name is not None]
    if len(given) != 1:
        raise UsageError("give one of FILE, --add SIGNED, --attach SIGNED")
    if args.file is not None:
        if args.out is None:
            raise UsageError("say with -o where to write the signed policy")
        opened = desk.open_any(args.file)
        if opened.report is not None:
            _warn(opened.report.warnings)
    else:
        if not args.key and not args.signature:
            raise UsageError("nothing to add: give --key or --signature")
        opened = desk.opened(trust.read_signed(desk.read(Path(given[0]), trust.SIGNED_BYTES)))
    document = _sign(opened.document, args.key, args.passphrase_file)
    for file in args.signature:
        document = signing.attach(document, _text(file))
    out = args.out if args.out is not None else given[0]
    _write(out, document)
    _emit_signed(args, _SIGN, document, out, title=_title(opened))
    return EXIT_FINE


def run_verify(args: argparse.Namespace) -> int:
    from vmwarden.linux.clock import SystemClock
    from vmwarden.model.policy import Policy
    from vmwarden.owner import desk
    from vmwarden.rules import trust

    document = trust.read_signed(desk.read(Path(args.signed), trust.SIGNED_BYTES))
    owners = trust.read_owners(desk.read(Path(args.owners), trust.OWNERS_BYTES))
    names = desk.would_take(document, owners, args.vm)
    opened = desk.opened(document)
    findings: list[str] = []
    if isinstance(opened.noun, Policy):
        findings = [
            f"{finding.id}: {finding.expected}, now {finding.found}"
            for finding in trust.policy_findings(opened.noun, SystemClock().now().utc_ms)
        ]
    title = _title(opened)
    lines = [
        f"{title}: signed by {', '.join(names)}; that is enough for the owners of version {owners.version}"
    ]
    lines += findings
    emit(args, {"schema": _VERIFY, "title": title, "signers": names, "findings": findings}, "\n".join(lines))
    return EXIT_FINE


def run_show(args: argparse.Namespace) -> int:
    from vmwarden.owner import desk, show, signing
    from vmwarden.rules import threshold

    opened = desk.open_any(args.file)
    if args.payload:
        sys.stdout.buffer.write(threshold.signed_bytes(opened.document))
        sys.stdout.buffer.flush()
        return EXIT_FINE
    text = show.words(opened.noun)
    signers = [key.fingerprint for key in signing.keys_that_signed(opened.document)]
    if opened.report is None:
        text += "\n\nSigned by\n" + "\n".join(f"  {signer}" for signer in signers or ["nobody"])
        text += "\n  (whether these are the owners: policy verify)"
    emit(args, {"schema": _SHOW, "document": opened.noun, "signers": signers}, text)
    return EXIT_FINE


def run_diff(args: argparse.Namespace) -> int:
    from vmwarden.model.policy import Policy
    from vmwarden.owner import desk, diff

    nouns = [desk.open_any(file).noun for file in (args.old, args.new)]
    old, new = nouns
    if not isinstance(old, Policy) or not isinstance(new, Policy):
        raise UsageError("diff compares policies")
    found = diff.changes(old, new)
    rows = [(change.path, change.old, change.new, change.direction.value) for change in found]
    text = table(("path", "old", "new", ""), rows) if rows else "no difference"
    emit(args, {"schema": _DIFF, "changes": [change._asdict() for change in found]}, text)
    return EXIT_FINE


def run_owners_new(args: argparse.Namespace) -> int:
    from vmwarden.linux.files import write_atomically
    from vmwarden.owner import rotation, show
    from vmwarden.rules import canonical

    owners = rotation.first(
        [_named_key(text) for text in args.key],
        policy_threshold=_given(args.policy_threshold, 1),
        owners_threshold=_given(args.owners_threshold, 1),
    )
    write_atomically(Path(args.out), canonical.encode(owners), mode=0o644)
    emit(args, {"schema": _OWNERS, "out": args.out, "owners": owners}, show.words(owners))
    return EXIT_FINE


def run_owners_rotate(args: argparse.Namespace) -> int:
    from vmwarden.owner import desk, rotation, signing
    from vmwarden.rules import trust

    current = trust.read_owners(desk.read(Path(args.current), trust.OWNERS_BYTES))
    following = rotation.successor(
        current,
        add=[_named_key(text) for text in args.add_key],
        remove=args.remove,
        policy_threshold=args.policy_threshold,
        owners_threshold=args.owners_threshold,
    )
    document = _sign(signing.document_of(following), args.key, args.passphrase_file)
    _write(args.out, document)
    _emit_signed(args, _OWNERS, document, args.out, title=f"owners version {following.version}")
    return EXIT_FINE


def _given(threshold: int | None, default: int) -> int:
    return default if threshold is None else threshold


def _named_key(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not separator or not name or not file:
        raise UsageError(f"{text!r}: write NAME=PUBFILE, like anna=anna.pub")
    return name, _text(file)


def _sign(document: "SignedDocument", keys: Sequence[str], passphrase_file: str | None) -> "SignedDocument":
    from vmwarden.owner import desk, signing
    from vmwarden.owner import keys as owner_keys

    for file in keys:
        path = Path(file)
        data = desk.read(path, owner_keys.KEY_FILE_BYTES)
        if owner_keys.is_public(data) or owner_keys.on_security_key(data):
            agent = os.environ.get("SSH_AUTH_SOCK", "")
            document = signing.sign_with_ssh_keygen(document, path, agent)
            continue

        def ask(file: str = file) -> bytes:
            if passphrase_file is not None:
                return _text(passphrase_file).split("\n", 1)[0].encode()
            if not sys.stdin.isatty():
                raise UsageError(f"{file} has a passphrase and nobody is there to ask: --passphrase-file")
            return getpass(f"Passphrase of {file}: ").encode()

        document = signing.sign(document, owner_keys.load(data, ask))
    return document


def _text(file: str) -> str:
    from vmwarden.owner import desk
    from vmwarden.rules.sshsig import ARMOR_CHARACTERS

    return desk.read(Path(file), max(_LINE_BYTES, ARMOR_CHARACTERS)).decode("utf-8", "replace")


def _write(out: str, document: "SignedDocument") -> None:
    from vmwarden.linux.files import write_atomically
    from vmwarden.rules import canonical

    write_atomically(Path(out).resolve(), canonical.encode(document), mode=0o644)


def _emit_signed(
    args: argparse.Namespace, schema: str, document: "SignedDocument", out: str, *, title: str
) -> None:
    from vmwarden.owner import signing

    signers = [key.fingerprint for key in signing.keys_that_signed(document)]
    lines = [f"{title}: written to {out}", *(f"  signed by {signer}" for signer in signers)]
    emit(args, {"schema": schema, "title": title, "out": out, "signers": signers}, "\n".join(lines))


def _title(opened: "Opened") -> str:
    from vmwarden.model.owners import Owners
    from vmwarden.model.policy import Policy

    noun = opened.noun
    if isinstance(noun, Policy):
        return f"policy {noun.name} version {noun.version}"
    return f"owners version {noun.version}" if isinstance(noun, Owners) else f"order to purge {noun.vm}"


def _warn(warnings: Sequence[Problem]) -> None:
    for problem in warnings:
        sys.stderr.write(printable(f"vmwarden: warning: {problem}") + "\n")


def _plain(problems: Sequence[Problem]) -> list[dict[str, object]]:
    return [problem._asdict() for problem in problems]
