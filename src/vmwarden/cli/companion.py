# SPDX-License-Identifier: Apache-2.0
"""vmwarden companion: the host's side."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vmwarden.cli.render import emit, json_option

if TYPE_CHECKING:
    from vmwarden.companion.facts import HostFacts
    from vmwarden.companion.serve import Post

#: option of `companion statement`, field of the facts, help
_FIELDS = (
    ("host-id", "which host this is; by default made from its machine id"),
    ("host-name", "its name; by default what it is called"),
    ("country", "ISO 3166-1 alpha-2, for example DE"),
    ("subdivision", "ISO 3166-2, for example DE-HE"),
    ("city", "city"),
    ("postal-code", "postal code"),
    ("time-zone", "IANA name, for example Europe/Berlin; by default what the host is set to"),
    ("building", "the building's name in the owner's table of facilities"),
    ("hypervisor", "for example kvm"),
    ("hypervisor-version", "for example 7.2"),
)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands companion keygen, statement and serve."""
    group = commands.add_parser("companion", help="what runs on the host, beside the VM")
    verbs = group.add_subparsers(dest="verb", metavar="VERB", required=True)

    keygen = verbs.add_parser("keygen", help="make the host's key and print its public line")
    json_option(keygen)
    keygen.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="new file, mode 0600"
    )
    keygen.set_defaults(run=_keygen)

    statement = verbs.add_parser(
        "statement",
        help="sign a static statement",
        description="Sign what the host says of itself to one VM, for fw_cfg or SMBIOS OEM strings.  "
        "Options go before the facts file, the facts file before what the host knows of itself.",
    )
    json_option(statement)
    _key_and_facts(statement)
    statement.add_argument("--vm", required=True, metavar="NAME", help="the VM's enrolled name")
    statement.add_argument(
        "--generation", type=int, default=1, metavar="N", help="which life of that name (1)"
    )
    for option, text in _FIELDS:
        statement.add_argument(f"--{option}", metavar="TEXT", help=text)
    statement.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=DATE",
        help="a compliance label and the day at whose first moment, UTC, it lapses; may be repeated",
    )
    statement.add_argument("--valid-for", default="24h", metavar="TIME", help="like 90m, 24h, 7d (24h)")
    statement.add_argument(
        "--format",
        choices=("jws", "smbios", "fw_cfg"),
        default="jws",
        help="jws: the token; smbios: one OEM string a line; fw_cfg: the item, filled to its fixed size",
    )
    statement.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write there instead of printing"
    )
    statement.set_defaults(run=_statement)

    serve = verbs.add_parser(
        "serve",
        help="answer the challenges of VMs",
        description="Answer challenges on one unix socket a VM, until SIGTERM.  "
        "SIGHUP reads the facts again.",
    )
    json_option(serve)
    _key_and_facts(serve)
    serve.add_argument(
        "--vm",
        action="append",
        required=True,
        metavar="NAME[=SOCKET]",
        help="a VM and its socket; may be repeated.  NAME alone takes --socket",
    )
    serve.add_argument("--socket", type=Path, metavar="PATH", help="the socket of the one --vm NAME")
    side = serve.add_mutually_exclusive_group()
    side.add_argument(
        "--listen", action="store_true", help="make the sockets; QEMU connects: -chardev socket,reconnect=1"
    )
    side.add_argument(
        "--connect",
        action="store_true",
        help="connect to QEMU's sockets: -chardev socket,server=on,wait=off (the default)",
    )
    serve.add_argument(
        "--socket-mode", default="0600", metavar="MODE", help="octal mode of sockets made by --listen (0600)"
    )
    serve.set_defaults(run=_serve)


def _key_and_facts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the host's private key")
    parser.add_argument("--facts", type=Path, metavar="FILE", help="JSON or YAML file of facts")


def _keygen(args: argparse.Namespace) -> int:
    from vmwarden.companion import keys
    from vmwarden.rules import jws

    public = jws.public_key(keys.generate(args.output))
    document = {"schema": "vmwarden.host-key/1", "key": public.line, "fingerprint": public.fingerprint}
    emit(args, document, public.line)
    return 0


def _statement(args: argparse.Namespace) -> int:
    from vmwarden.companion import answer, keys
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.files import write_atomically
    from vmwarden.model.statement import Audience
    from vmwarden.rules import canonical, duration, statement_carrier
    from vmwarden.rules.statement import issue

    key = keys.load(args.key)
    facts = _gathered(args.facts, _given(args))
    said = answer.statement(
        facts,
        audience=Audience(vm=args.vm, generation=args.generation),
        now_s=SystemClock().now().utc_ms // 1000,
        valid_for_s=duration.milliseconds(args.valid_for) // 1000,
    )
    # read it as the VM will: a bad country or VM name is found here, not there
    canonical.decode(canonical.encode(said), type(said), limit=65536, what="statement")
    token = issue(said, key)
    if args.format == "fw_cfg":
        data = statement_carrier.to_item(token)
    elif args.format == "smbios":
        data = "\n".join(statement_carrier.to_strings(token)).encode("ascii") + b"\n"
    else:
        data = token.encode("ascii") + b"\n"
    if args.output is not None:
        write_atomically(args.output, data, mode=0o644)
    text = f"written to {args.output}" if args.output is not None else data.decode("ascii").rstrip("\n")
    emit(args, {"schema": "vmwarden.host-statement/1", "statement": said, "jws": token}, text)
    return 0


def _serve(args: argparse.Namespace) -> int:
    import asyncio

    from vmwarden.companion import keys
    from vmwarden.companion.serve import Companion
    from vmwarden.linux.clock import SystemClock

    companion = Companion(
        _posts(args),
        keys.load(args.key),
        lambda: _gathered(args.facts),
        clock=SystemClock(),
        say=lambda line: print(f"vmwarden companion: {line}", file=sys.stderr, flush=True),
        mode=_mode(args.socket_mode),
    )
    asyncio.run(companion.run())
    return 0


def _posts(args: argparse.Namespace) -> "tuple[Post, ...]":
    from vmwarden.companion.serve import Post
    from vmwarden.errors import UsageError

    posts = []
    for text in args.vm:
        vm, _, path = text.partition("=")
        if not path and args.socket is not None and len(args.vm) == 1:
            path = str(args.socket)
        if not vm or not path:
            raise UsageError(f"--vm {text}: give it a socket: --vm NAME=SOCKET, or --socket with one --vm")
        posts.append(Post(vm=vm, path=Path(path), listen=args.listen))
    return tuple(posts)


def _mode(text: str) -> int:
    from vmwarden.errors import UsageError

    try:
        mode = int(text, 8)
    except ValueError as error:
        raise UsageError(f"--socket-mode {text}: not an octal number") from error
    if not 0 <= mode <= 0o777:
        raise UsageError(f"--socket-mode {text}: not between 0 and 0777")
    return mode


def _given(args: argparse.Namespace) -> "HostFacts":
    import msgspec

    from vmwarden.companion.facts import HostFacts, until_s
    from vmwarden.errors import Malformed, UsageError

    fields: dict[str, object] = {}
    for option, _ in _FIELDS:
        value = getattr(args, option.replace("-", "_"))
        if value is not None:
            fields[option.replace("-", "_")] = value
    labels = {}
    for text in args.label:
        name, _, until = text.partition("=")
        if not name or not until:
            raise UsageError(f"--label {text}: write NAME=DATE")
        until_s(until)
        labels[name] = until
    try:
        return msgspec.convert({**fields, "compliance": labels}, HostFacts)
    except msgspec.ValidationError as error:
        raise Malformed(f"options: {error}") from error


def _gathered(file: Path | None, *first: "HostFacts") -> "HostFacts":
    import os

    from vmwarden.companion import facts
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.files import read_bounded
    from vmwarden.linux.tree import FileTree

    declared = [] if file is None else [facts.read(read_bounded(file, facts.FACTS_BYTES), str(file))]
    with FileTree(Path("/"), live=True) as tree:
        own = facts.of_this_host(tree, os.uname().nodename, SystemClock().now())
    return facts.merge(*first, *declared, own)
