# SPDX-License-Identifier: Apache-2.0
"""check: one look at this VM, and the posture that it would take.  Changes nothing."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vmwarden.cli.render import emit, json_option, table
from vmwarden.errors import Malformed, SourceUnavailable, UsageError
from vmwarden.model.decision import Decision
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Answer

if TYPE_CHECKING:
    from vmwarden.rules.calendar.timetable import Timetable

_EXIT = {Answer.ALLOW: 0, Answer.DENY: 3, Answer.UNKNOWN: 4}
#: what the hosts get to answer, milliseconds
_BOUND_MS = 5_000


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("check", help="one look, and the posture it would take; changes nothing")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="judge by this signed policy instead of the one in force"
    )
    parser.add_argument(
        "--vm", default="", metavar="NAME", help="with --policy on a machine that is not enrolled: its name"
    )
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="DIR",
        help="judge a recorded tree (evidence --record) instead of this VM",
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="folder of vmwarden's own files"
    )
    json_option(parser)
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    import base64
    import os

    from vmwarden.cycle.book import Book
    from vmwarden.cycle.turn import take_turn
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.tree import FileTree
    from vmwarden.model.escalation import Escalation
    from vmwarden.model.message import Declared, RawStatement
    from vmwarden.model.statement import Audience
    from vmwarden.rules.trusted_time import utc
    from vmwarden.watcher.catalog import SOURCES
    from vmwarden.watcher.look import look
    from vmwarden.watcher.ways import ways

    policy, enrolment, floor_ms = _in_force(args)
    clock = SystemClock()
    recorded = args.evidence is not None
    tree = FileTree(args.evidence if recorded else Path("/"), live=not recorded)
    audience = Audience(vm=enrolment.vm, generation=enrolment.generation)
    book = Book(audience=audience, hosts=policy.trust.hosts)
    nonce = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    challenge = None if recorded else book.challenge(nonce, clock.now())
    for message in look(
        SOURCES, tree, () if recorded else ways(tree), challenge=challenge, clock=clock, bound_ms=_BOUND_MS
    ):
        now = clock.now()
        if isinstance(message, Declared):
            book.add_declared(message, now)
        elif isinstance(message, RawStatement):
            book.add_statement(message, now, utc_ms=utc(now, book.anchor, floor_ms))
    now = clock.now()
    decision, _ = take_turn(
        policy,
        book.evidence(),
        Escalation(),
        now=now,
        utc_ms=utc(now, book.anchor, floor_ms),
        stamp=book.anchor,
        timetable=_timetable(policy),
    )
    emit(
        args,
        {
            "schema": "vmwarden.check/1",
            "policy": policy.name,
            "version": policy.version,
            "decision": decision,
        },
        _text(decision, policy),
    )
    return _EXIT[decision.answer]


def _in_force(args: argparse.Namespace) -> tuple[Policy, Enrolment, int]:
    """The policy to judge by, for whom, and the time floor.  Raises UsageError, UntrustedInput."""
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.files import read_bounded
    from vmwarden.rules.trust import SIGNED_BYTES, read_policy, read_signed
    from vmwarden.store.installed import load
    from vmwarden.store.layout import Layout

    installed = load(Layout.below(args.root), SystemClock().now())
    enrolment = installed.enrolment
    if args.vm:
        enrolment = Enrolment(vm=args.vm, key="")
    if enrolment is None:
        raise UsageError("this VM is not enrolled: enrol it, or name it with --vm for a trial")
    floor_ms = installed.floors.time_utc_ms if installed.floors is not None else 0
    if args.policy is not None:
        document = read_signed(read_bounded(args.policy, SIGNED_BYTES))
        return read_policy(document), enrolment, floor_ms
    if installed.policy is None:
        why = "; ".join(f"{finding.id}: {finding.found}" for finding in installed.findings)
        raise UsageError(f"no policy is in force ({why or 'none applied'}): name one with --policy")
    return installed.policy, enrolment, floor_ms


def _timetable(policy: Policy) -> "Timetable | None":
    """None: there are no hours, or not the zones that they name; the verdict then says so."""
    from vmwarden.linux.tzdata import Tzdata

    if policy.hours is None:
        return None
    try:
        return Tzdata().timetable(policy.hours)
    except (Malformed, SourceUnavailable):
        return None


def _text(decision: Decision, policy: Policy) -> str:
    rows = [
        (finding.answer, verdict.fence, finding.id, finding.expected, finding.found, finding.source)
        for verdict in decision.verdicts
        for finding in verdict.findings
    ]
    head = (
        f"{decision.answer}: would take posture {decision.posture} by policy {policy.name} {policy.version}"
    )
    return f"{head}\n{table(('answer', 'fence', 'finding', 'expected', 'found', 'source'), rows)}"
