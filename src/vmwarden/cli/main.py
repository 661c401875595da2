# SPDX-License-Identifier: Apache-2.0
"""Entry point of the vmwarden command."""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from vmwarden import __version__
from vmwarden.cli.render import printable
from vmwarden.errors import (
    BugError,
    JournalFull,
    Problem,
    Tampered,
    UntrustedInput,
    UsageError,
    WorldError,
)

#: modules of commands, in the order in which --help lists them, and what each adds.  Only the module of the
#: command that is given is loaded: the daemons would carry all the others for as long as they run.
COMMANDS = {
    "init": ("init",),
    "enrol": ("enrol", "image", "purge"),
    "policy": ("policy",),
    "apply": ("apply", "confirm"),
    "evidence": ("evidence",),
    "check": ("check",),
    "hours": ("hours",),
    "daemon": ("run", "watcher", "status", "restart", "explain", "boot-check"),
    "journal": ("journal",),
    "companion": ("companion",),
}

EXIT_ALLOW = 0
EXIT_DENY = 3
EXIT_UNKNOWN = 4
EXIT_USAGE = 64
EXIT_BAD_INPUT = 65
EXIT_WORLD = 69
EXIT_BUG = 70

EPILOG = """exit codes: 0 allow or answered, 3 deny, 4 unknown, 64 usage, 65 bad input, 69 the machine did not
do its part, 70 our bug.  Errors with --json: {"errors": [{file, line, column, path, message, mend}]}."""


class _Parser(argparse.ArgumentParser):
    """argparse that exits with 64: its own 2 could be read as a verdict."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}")


def parser(command: str = "") -> argparse.ArgumentParser:
    """The command line of the module that has command; the whole one where none has it here."""
    top = _Parser(
        prog="vmwarden",
        description="The warden that lives inside a virtual machine and makes the VM own its security.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"vmwarden {__version__}")
    # named, because argparse loads shutil and three compressors to find it out
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser, prog="vmwarden")
    given = [name for name, adds in COMMANDS.items() if command in adds and _here(name)]
    for name in given or filter(_here, COMMANDS):
        importlib.import_module(f"vmwarden.cli.{name}").register(commands)
    return top


def _here(name: str) -> bool:
    # what only the owner's desk or the host needs is not installed in a VM
    return importlib.util.find_spec(f"vmwarden.cli.{name}") is not None


def main(argv: Sequence[str]) -> int:
    """Run one command.  Returns the exit code; raises nothing but SystemExit for --help and --version."""
    wants_json = "--json" in argv
    try:
        top = parser(argv[0] if argv else "")
        args = top.parse_args(argv)
        if args.command is None:
            top.print_help()
            return EXIT_USAGE
        return int(args.run(args))
    except UntrustedInput as error:
        return _report(error.problems, EXIT_BAD_INPUT, wants_json)
    except Tampered as error:
        return _report((Problem(str(error)),), EXIT_BAD_INPUT, wants_json)
    except UsageError as error:
        return _report((Problem(str(error)),), EXIT_USAGE, wants_json)
    except WorldError as error:
        return _report((Problem(str(error), error.mend),), EXIT_WORLD, wants_json)
    except JournalFull as error:
        return _report((Problem(str(error)),), EXIT_WORLD, wants_json)
    except BugError as error:
        return _report((Problem(f"bug in vmwarden: {error}"),), EXIT_BUG, wants_json)
    except BrokenPipeError:
        # nobody read the answer: that is no verdict, and least of all allow
        return EXIT_WORLD
    except KeyboardInterrupt:
        return 130


def _report(problems: Sequence[Problem], code: int, wants_json: bool) -> int:
    if wants_json:
        document = {"errors": [problem._asdict() for problem in problems]}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        for problem in problems:
            # what is wrong with a stranger's file is told in his own words
            sys.stderr.write(printable(f"vmwarden: {problem}") + "\n")
    return code


def entry() -> NoReturn:
    """What the vmwarden command calls."""
    try:
        code = main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - the last line of defence: report and exit with 70
        sys.__excepthook__(type(error), error, error.__traceback__)
        sys.stderr.write("vmwarden: this is a bug in vmwarden; please report the lines above\n")
        code = EXIT_BUG
    raise SystemExit(code)


if __name__ == "__main__":
    entry()
