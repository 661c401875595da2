# SPDX-License-Identifier: Apache-2.0
"""journal show, verify, export, checkpoint: read the record.  Writing it is the warden's alone."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from vmwarden.cli.render import emit, json_option, printable
from vmwarden.errors import FileAbsent, Malformed, Tampered, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from vmwarden.model.journal import Record
    from vmwarden.rules.journal_check import StoredRecord

#: a note of a witness, an enrolment, a public key: small files
_SMALL = 131_072
#: characters of a body without reasons that one line shows
_SHOWN = 200
EXIT_BAD_INPUT = 65


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this module."""
    top = commands.add_parser("journal", help="the record: show, verify, export, checkpoint")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    show = verbs.add_parser("show", help="print records, one a line, oldest first")
    show.add_argument("--since", type=_number, metavar="SEQ", help="from this record on, not the newest")
    show.add_argument("--kind", help="only this kind; kind.* takes all that begin so")
    show.add_argument("--limit", type=_number, default=50, metavar="N", help="at most N records (default 50)")
    _where(show)
    show.set_defaults(run=_show)

    verify = verbs.add_parser(
        "verify",
        help="check every record, hash and signature",
        epilog="Records cut off at the end show only against a checkpoint that was kept elsewhere: "
        "take one with `vmwarden journal checkpoint`, keep it off the VM, give it with --against.",
    )
    verify.add_argument("file", nargs="?", type=Path, metavar="FILE", help="an export or a journal")
    verify.add_argument(
        "--key", metavar="PUB", help="who must have signed: a public key line, or a file that holds one"
    )
    verify.add_argument(
        "--against",
        type=Path,
        action="append",
        default=[],
        metavar="NOTE",
        help="a checkpoint kept elsewhere",
    )
    _where(verify)
    verify.set_defaults(run=_verify)

    export = verbs.add_parser("export", help="everything as lines of JSON, to be verified elsewhere")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there (default: print)")
    _where(export)
    export.set_defaults(run=_export)

    checkpoint = verbs.add_parser("checkpoint", help="print the newest signed checkpoint, to keep elsewhere")
    _where(checkpoint)
    checkpoint.set_defaults(run=_checkpoint)


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--journal", type=Path, metavar="PATH", help="the journal (default /var/lib/vmwarden/journal.db)"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="vmwarden's own files are below DIR"
    )
    json_option(parser)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _path(args: argparse.Namespace) -> Path:
    from vmwarden.store.layout import Layout

    given: Path | None = args.journal
    return given if given is not None else Layout.below(args.root).journal


class _Row(NamedTuple):
    """record None: it cannot be read, and why says why."""

    seq: int
    record: "Record | None"
    why: str = ""


def _show(args: argparse.Namespace) -> int:
    rows = _rows(args)
    document = {
        "schema": "vmwarden.journal-records/1",
        "records": [msgspec.to_builtins(row.record) for row in rows if row.record is not None],
        "unreadable": [{"seq": row.seq, "message": row.why} for row in rows if row.record is None],
    }
    lines = [line(row.record) if row.record else f"NOT READABLE  {_one_line(row.why)}" for row in rows]
    if lines or args.json:
        emit(args, document, "\n".join(lines))
    bad = any(row.record is None for row in rows)
    if bad:
        sys.stderr.write("vmwarden: the journal is damaged; `vmwarden journal verify` tells more\n")
    return EXIT_BAD_INPUT if bad else 0


def _rows(args: argparse.Namespace) -> list[_Row]:
    """Newest file first until there are enough, or the first that is asked for is reached."""
    from vmwarden.rules import journal_check
    from vmwarden.store import journal_reader

    path = _path(args)
    contents = journal_reader.read(path)
    base, _, _ = journal_check.read_base(contents.base)
    rows = list(_wanted(contents.records, args))
    for older in reversed(journal_reader.segments(path, before=base.first_seq)):
        enough = len(rows) >= args.limit if args.since is None else args.since >= base.first_seq
        if enough:
            break
        contents = journal_reader.read(older)
        base, _, _ = journal_check.read_base(contents.base)
        rows = [*_wanted(contents.records, args), *rows]
    if args.since is not None:
        return rows[: args.limit]
    return rows[max(0, len(rows) - args.limit) :]


def _wanted(stored: "tuple[StoredRecord, ...]", args: argparse.Namespace) -> Iterator[_Row]:
    from vmwarden.rules import journal_check

    for row in stored:
        if args.since is not None and row.seq < args.since:
            continue
        try:
            record = journal_check.read_record(row, seq=row.seq)
        except Tampered as error:
            yield _Row(row.seq, None, str(error))
            continue
        if args.kind is None or _is_kind(record.kind, args.kind):
            yield _Row(row.seq, record)


def _is_kind(kind: str, wanted: str) -> bool:
    if wanted.endswith(".*"):
        return kind.startswith(wanted[:-1])
    return kind == wanted


def line(record: "Record") -> str:
    """One line without control characters: time, seq, kind, reasons."""
    from vmwarden.rules import instant

    return _one_line(
        f"{instant.text(record.utc_ms)}  {record.seq}  {record.kind}  {_gist(record.body)}".rstrip()
    )


def _gist(body: dict[str, Any]) -> str:
    """posture and answer first, then every reason; else the body itself."""
    findings = body.get("findings")
    if isinstance(findings, list):
        said = [str(body[name]) for name in ("posture", "answer", "mode") if name in body]
        reasons = [_reason(one) for one in findings if isinstance(one, dict) and one.get("answer") != "allow"]
        return ": ".join(part for part in (", ".join(said), "; ".join(reasons)) if part)
    text = " ".join(f"{name}={_value(value)}" for name, value in sorted(body.items()))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _reason(finding: dict[str, Any]) -> str:
    told = [f"{name} {finding[name]}" for name in ("expected", "found") if finding.get(name)]
    if finding.get("source"):
        told.append(f"says {finding['source']}")
    return f"{finding.get('id', '?')}" + (f" ({', '.join(told)})" if told else "")


def _value(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def _verify(args: argparse.Namespace) -> int:
    from vmwarden.rules.checkpoint import key_of, verifier_key
    from vmwarden.store import journal_reader

    if args.file is not None and args.journal is not None:
        raise UsageError("FILE and --journal name two journals")
    key, whose = _key(args)
    verified = journal_reader.verify(
        args.file or _path(args), key=key, against=[_note(path) for path in args.against]
    )
    newest = verified[-1]
    public = key_of(newest.base.key)
    first = verified[0].base.first_seq
    document = {
        "schema": "vmwarden.journal-verified/1",
        "origin": newest.base.origin,
        "key": newest.base.key,
        "verifier_key": verifier_key(newest.base.origin, public),
        "key_from": whose,
        "first_seq": first,
        "size": newest.size,
        "segments": len(verified),
        "checkpoints": sum(one.checkpoints for one in verified),
        "root": newest.newest.root,
        "against": len(args.against),
    }
    lines = [
        f"verified: records {first} to {newest.size - 1} of {newest.base.origin}",
        f"root      {newest.newest.root}, signed with every record",
        f"key       {newest.base.key} ({_WHOSE[whose]})",
    ]
    if first:
        lines.append(f"older     records 0 to {first - 1} are not here; a signature over them is")
    if not args.against:
        lines.append("end       records cut off there would not show: --against a checkpoint kept elsewhere")
    emit(args, document, "\n".join(lines))
    return 0


_WHOSE = {
    "argument": "the one that you gave",
    "enrolment": "this VM's enrolment",
    "journal": "as the file itself says: give --key to know whose it is",
}


def _key(args: argparse.Namespace) -> "tuple[Ed25519PublicKey | None, str]":
    """Who must have signed, and how we know."""
    from vmwarden.linux.files import read_bounded
    from vmwarden.model.enrolment import Enrolment
    from vmwarden.model.installed import Slot
    from vmwarden.rules import canonical
    from vmwarden.rules.checkpoint import key_of
    from vmwarden.store.layout import Layout

    if args.key is not None:
        text = args.key
        if "+" not in text and not text.startswith("ssh-"):
            text = read_bounded(Path(text), _SMALL).decode("utf-8", "replace")
        return key_of(text), "argument"
    if args.file is None and args.journal is None:
        try:
            data = read_bounded(Layout.below(args.root).path(Slot.ENROLMENT), _SMALL)
        except FileAbsent:
            return None, "journal"
        enrolment = canonical.decode(data, Enrolment, limit=_SMALL, what="the enrolment")
        return key_of(enrolment.key), "enrolment"
    return None, "journal"


def _note(path: Path) -> str:
    from vmwarden.linux.files import read_bounded

    try:
        return read_bounded(path, _SMALL).decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{path}: not a signed checkpoint") from error


def _export(args: argparse.Namespace) -> int:
    from vmwarden.linux.files import write_atomically
    from vmwarden.store import journal_reader

    pieces = journal_reader.export(_path(args))
    if args.output is None:
        sys.stdout.flush()
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    write_atomically(args.output, b"".join(pieces))
    return 0


def _checkpoint(args: argparse.Namespace) -> int:
    from vmwarden.store import journal_reader

    newest = journal_reader.verify(_path(args))[-1].newest
    document = {"schema": "vmwarden.journal-checkpoint/1", **msgspec.to_builtins(newest)}
    emit(args, document, newest.note.removesuffix("\n"))
    return 0
