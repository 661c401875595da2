# SPDX-License-Identifier: Apache-2.0
"""init: a first policy that fits this VM, in observe mode."""

import argparse
from pathlib import Path

from vmwarden.cli.render import emit, json_option
from vmwarden.errors import UsageError

_DAY_MS = 86_400_000
#: a policy has to be looked at once a year
_VALID_DAYS = 365

_TEMPLATE = """\
# A first policy for this VM, written by `vmwarden init`.  It observes: it says what it would have done.
# Next: read it, then
#   vmwarden policy lint {file}
#   vmwarden policy sign {file} --key YOUR_KEY -o policy.signed.json
format: vmwarden.policy/1
name: {name}
version: 1
vms: ["{vm}"]
valid: {{from: "{start}", until: "{end}"}}
mode: observe
manage:
  in: [{{tcp: 22, from: {manage}}}]   # who may reach SSH while the VM is closed: make it narrow
host:
  all_of:
{clauses}
# Where may it run?  A place needs a host that signs what it says (vmwarden companion), or a facility table:
# place:
#   any_of:
#     - {{country: DE, postal_codes: ["603*"], time_zones: [Europe/Berlin]}}
#   proof: signed
# trust:
#   hosts: [{{name: rack-7, key: "ssh-ed25519 AAAA…"}}]
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("init", help="write a first policy that fits this VM, in observe mode")
    parser.add_argument("-o", "--output", type=Path, default=Path("policy.yaml"), help="default policy.yaml")
    parser.add_argument("--vm", default="", metavar="NAME", help="the VM's name in its enrolment (default *)")
    parser.add_argument(
        "--manage",
        default="10.0.0.0/8",
        metavar="CIDR",
        help="network of those who manage it (default 10.0.0.0/8)",
    )
    json_option(parser)
    parser.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.tree import FileTree
    from vmwarden.model.evidence import Subject
    from vmwarden.rules import instant
    from vmwarden.watcher.catalog import SOURCES

    if args.output.exists():
        raise UsageError(f"{args.output} is there already: name another with --output, or remove it")
    now = SystemClock().now()
    stable = (Subject.HYPERVISOR, Subject.PLATFORM, Subject.PRODUCT)
    seen: dict[str, str] = {}
    with FileTree(Path("/"), live=True) as tree:
        for source in SOURCES:
            for piece in source.read(tree, now):
                if piece.subject in stable and isinstance(piece.value, str):
                    seen.setdefault(piece.subject, piece.value)
    clauses = [f'    - {{fact: {subject}, equals: "{value}"}}' for subject, value in sorted(seen.items())]
    if not clauses:
        clauses = ["    - {fact: host.hypervisor, in: [kvm]}   # nothing was recognised here: say what it is"]
    today = now.utc_ms - now.utc_ms % _DAY_MS
    text = _TEMPLATE.format(
        file=args.output,
        name="first",
        vm=args.vm or "*",
        start=instant.text(today),
        end=instant.text(today + _VALID_DAYS * _DAY_MS),
        manage=args.manage,
        clauses="\n".join(clauses),
    )
    with open(args.output, "x", encoding="utf-8") as file:
        file.write(text)
    emit(
        args,
        {"schema": "vmwarden.init/1", "written": str(args.output), "recognised": seen},
        f"wrote {args.output}: observe mode, {len(seen)} facts of this host recognised\n"
        f"next: vmwarden policy lint {args.output}",
    )
    return 0
