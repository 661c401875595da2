# SPDX-License-Identifier: Apache-2.0
"""vmwarden evidence: what this machine, or a recorded one, says of its host and place."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vmwarden.cli.render import emit, json_option, table

if TYPE_CHECKING:
    from vmwarden.model.evidence import Evidence


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command evidence."""
    parser = commands.add_parser(
        "evidence",
        help="show what the local sources say of host, place and time",
        description="Ask every local source once.  Nothing is sent anywhere, and nothing is judged: signed "
        "statements are shown by their digest; `check` verifies them.",
    )
    json_option(parser)
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="read below DIR instead of /; nothing outside it is opened"
    )
    parser.add_argument(
        "--record", type=Path, metavar="DIR", help="copy the files that were read to DIR, which must be empty"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0, for an unknown platform too.  Raises SourceUnavailable, UsageError, FileUnavailable."""
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.recording import RecordingTree
    from vmwarden.linux.tree import FileTree
    from vmwarden.ports.tree import Tree
    from vmwarden.sources.platform import identify
    from vmwarden.watcher.catalog import IDENTIFYING, SOURCES

    with FileTree(args.root or Path("/"), live=args.root is None) as files:
        recording = None if args.record is None else RecordingTree(files, args.record)
        tree: Tree = files if recording is None else recording
        # with --root not even /proc is opened
        now = SystemClock(None if files.live else "recorded").now()
        found = identify(tree)
        evidence = [piece for source in SOURCES for piece in source.read(tree, now)]
    document: dict[str, object] = {
        "schema": "vmwarden.evidence/1",
        "platform": found.platform,
        "platform_because": found.because,
        "evidence": [_row(piece) for piece in evidence],
    }
    text = f"platform: {found.platform} ({found.because})\n\n" + table(
        ("SUBJECT", "VALUE", "SOURCE", "PROOF"),
        [(p.subject, _shown(p), p.source, "-" if p.unavailable else p.proof) for p in evidence],
    )
    if recording is not None:
        identifying = sorted(recording.recorded & set(IDENTIFYING))
        document["recorded"] = {"files": sorted(recording.recorded), "identifying": identifying}
        text += f"\n\nrecorded {len(recording.recorded)} files in {args.record}"
        if identifying:
            text += "\nthese identify this VM; look before you pass them on: " + ", ".join(identifying)
    emit(args, document, text)
    return 0


def _row(piece: "Evidence") -> dict[str, object]:
    row: dict[str, object] = {
        "id": piece.id,
        "subject": piece.subject,
        "value": piece.value,
        "source": piece.source,
        "proof": piece.proof,
        "issued_at": _instant(piece.issued_at_ms),
        "observed_at": _instant(piece.observed_at_ms),
        "valid_until": _instant(piece.valid_until_ms),
    }
    if piece.unavailable:
        row["unavailable"] = piece.unavailable
    if piece.finding:
        row["finding"] = piece.finding
    return row


def _instant(utc_ms: int | None) -> str | None:
    from vmwarden.rules import instant

    return None if utc_ms is None else instant.text(utc_ms)


def _shown(piece: "Evidence") -> str:
    if piece.unavailable:
        return f"unavailable: {piece.unavailable}"
    return ", ".join(piece.value) if isinstance(piece.value, tuple) else str(piece.value)
