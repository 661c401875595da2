# SPDX-License-Identifier: Apache-2.0
"""What the command line prints."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec


def json_option(parser: argparse.ArgumentParser) -> None:
    """Every command has --json: one document on standard output, with a "schema" tag."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def root_option(parser: argparse.ArgumentParser) -> None:
    """--root, for commands that read or change vmwarden's own files."""
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="keep vmwarden's own files below DIR (for trials and images)",
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; no trailing spaces."""
    cells = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def emit(args: argparse.Namespace, document: object, text: str) -> None:
    """Print document as JSON with --json, text otherwise.

    Terminal control characters in text are made visible: evidence is written by strangers.
    """
    if args.json:
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        return
    sys.stdout.write(printable(text) + "\n")


def printable(text: str) -> str:
    """Text without control characters except line feed and tab."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
