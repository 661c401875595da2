# SPDX-License-Identifier: Apache-2.0
"""run, watcher, status, explain, boot-check: the programs in the VM, and talking to them."""

import argparse
import contextlib
import sys
from pathlib import Path

import msgspec

from vmwarden.cli.render import emit, json_option, printable, root_option, table
from vmwarden.errors import BugError, UsageError, WorldError
from vmwarden.model.control import Request, Status
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical
from vmwarden.rules.duration import milliseconds

#: exit codes of a verdict (design.md, command line)
VERDICT_EXIT = {Answer.ALLOW: 0, Answer.DENY: 3, Answer.UNKNOWN: 4}

#: the lease that is handed over ends before (warden.gatekeeper), a slow start included
_RESTARTED_WITHIN_S = 15.0


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this module."""
    run = commands.add_parser("run", help="the warden: judge, hold the gate, write the journal")
    run.add_argument("--observe", action="store_true", help="act on nothing, whatever the policy says")
    run.add_argument(
        "--watcher",
        choices=("internal", "external"),
        default="internal",
        help="internal: start the watcher as a child (default); external: systemd starts it",
    )
    run.add_argument("--user", default="vmwarden", help="user that the watcher becomes (default vmwarden)")
    run.add_argument("--for", dest="duration", default="", help="stop after this time, like 60s (for trials)")
    root_option(run)
    run.set_defaults(run=_run)

    watcher = commands.add_parser("watcher", help="the watcher: gather evidence for a running warden")
    watcher.add_argument("--user", default="vmwarden", help="user to become (default vmwarden)")
    watcher.add_argument("--with-parent", action="store_true", help="end when the parent process ends")
    root_option(watcher)
    watcher.set_defaults(run=_watcher)

    status = commands.add_parser("status", help="how things are: posture, verdict, policy, last verified")
    json_option(status)
    root_option(status)
    status.set_defaults(run=_status)

    restart = commands.add_parser(
        "restart", help="start the warden again, as it is installed now; what is open stays open meanwhile"
    )
    json_option(restart)
    root_option(restart)
    restart.set_defaults(run=_restart)

    explain = commands.add_parser("explain", help="why: every finding, and what would happen next")
    json_option(explain)
    root_option(explain)
    explain.set_defaults(run=_explain)

    boot = commands.add_parser("boot-check", help="wait, with a bound, for the verdict of this boot")
    boot.add_argument("--bound", default="30s", help="longest wait, like 30s (default; at most 55s)")
    json_option(boot)
    root_option(boot)
    boot.set_defaults(run=_boot_check)


def _run(args: argparse.Namespace) -> int:
    from vmwarden.store.layout import Layout
    from vmwarden.warden.program import serve

    return serve(
        Layout.below(args.root),
        observe_only=args.observe,
        watcher_user=args.user,
        watcher_command=None
        if args.watcher == "external"
        else ("watcher", "--with-parent", "--user", args.user, "--root", str(args.root)),
        for_ms=milliseconds(args.duration) if args.duration else None,
        say=say,
    )


def _watcher(args: argparse.Namespace) -> int:
    from vmwarden.store.layout import Layout
    from vmwarden.watcher.start import serve

    serve(Layout.below(args.root).watcher_socket, user=args.user, with_parent=args.with_parent, say=say)
    return 0


def say(line: str) -> None:
    """One line on the console, whatever it is."""
    # neither a console that knows few letters nor one that is gone is a reason to stop guarding
    text = printable(f"vmwarden: {line}") + "\n"
    encoding = sys.stdout.encoding or "utf-8"
    with contextlib.suppress(OSError):
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()


def fetch(root: Path, request: str, *, timeout_s: float) -> Status:
    """The running warden's status.  Raises WorldError, BugError if it answers something else."""
    from vmwarden.linux.control_client import ask
    from vmwarden.store.layout import Layout

    line = canonical.encode(msgspec.convert({"request": request}, Request))
    answer = ask(Layout.below(root).control_socket, line, timeout_s=timeout_s)
    try:
        return msgspec.json.decode(answer, type=Status)
    except msgspec.MsgspecError as error:
        raise BugError(f"the warden answered something else: {error}: {answer[:200]!r}") from error


def _status(args: argparse.Namespace) -> int:
    status = fetch(args.root, "status", timeout_s=5)
    emit(args, status, text_of(status))
    return VERDICT_EXIT[status.decision.answer]


def _restart(args: argparse.Namespace) -> int:
    fetch(args.root, "restart", timeout_s=5)
    status = _await_verdict(args.root, _RESTARTED_WITHIN_S)
    emit(args, status, text_of(status))
    return VERDICT_EXIT[status.decision.answer]


def _explain(args: argparse.Namespace) -> int:
    status = fetch(args.root, "status", timeout_s=5)
    emit(args, status, text_of(status) + "\n\n" + why(status))
    return VERDICT_EXIT[status.decision.answer]


def _boot_check(args: argparse.Namespace) -> int:
    bound_ms = milliseconds(args.bound)
    if bound_ms > 55_000:
        raise UsageError("--bound: at most 55s, so that a boot is never held for longer than a minute")
    try:
        status = _await_verdict(args.root, bound_ms / 1000)
    except WorldError as error:
        emit(
            args,
            {"schema": "vmwarden.boot-check/1", "answer": "unknown", "because": str(error)},
            f"vmwarden: no word from the warden within {args.bound}: {error}",
        )
        return VERDICT_EXIT[Answer.UNKNOWN]
    emit(args, status, f"vmwarden: {verdict_line(status)}\n{why(status)}")
    return boot_exit(status)


def boot_exit(status: Status) -> int:
    """0 only if this VM may serve, or guards nothing: a verdict that allows opens nothing while the journal
    takes no record or the gate cannot be had."""
    if status.mode == "observe":
        return 0
    if status.decision.answer is Answer.ALLOW and status.posture not in (Posture.OPEN, Posture.GUARDED):
        return VERDICT_EXIT[Answer.UNKNOWN]
    return VERDICT_EXIT[status.decision.answer]


def _await_verdict(root: Path, bound_s: float) -> Status:
    """The status once the first verdict is final, or as it stands when the time is up.

    A warden that is not there yet is waited for.  Raises WorldError.
    """
    from vmwarden.linux.clock import elapsed_s, pause

    started = elapsed_s()
    while (left := bound_s - (elapsed_s() - started)) > 0:
        try:
            return fetch(root, "settled", timeout_s=left)
        except WorldError:
            pause(min(0.2, left))
    return fetch(root, "status", timeout_s=2)


def verdict_line(status: Status) -> str:
    """One line: what, in which mode."""
    would = "" if status.mode == "enforce" else " (observe: nothing is done)"
    return f"{status.decision.answer}: {status.posture}{would}"


def text_of(status: Status) -> str:
    """Status for people."""
    policy = status.policy
    scheduled = ", as scheduled" if status.decision.scheduled else ""
    rows = [
        ("posture", f"{status.posture} since {status.posture_since or 'start'}"),
        ("verdict", status.decision.answer + scheduled + ("" if status.settled else " (not settled yet)")),
        ("mode", status.mode + (", armed" if status.armed else "")),
        ("last verified", status.last_verified or "never in this run"),
        ("policy", f"{policy.name} version {policy.version}, {policy.mode}, until {policy.valid_until}")
        if policy
        else ("policy", "none" if status.enrolled else "none: this VM is not enrolled"),
        ("vm", status.vm or "not enrolled"),
        ("tier", f"{status.tier}: the warden alone (a hypervisor that lies in everything is not stopped)"),
        ("watcher", status.watcher),
        ("trusted time", status.trusted_time or "none in this run"),
    ]
    if policy is not None and policy.pending_confirm:
        rows.insert(5, ("pending", "not confirmed: it will be reverted; run vmwarden confirm"))
    # those of services are in explain: there may be a thousand
    rows += [
        ("hours", finding.found)
        for verdict in status.decision.verdicts
        for finding in verdict.findings
        if verdict.fence == "hours" and not finding.subject
    ]
    if status.gate is not None:
        lease = f"lease {status.gate.lease_ms} ms" if status.gate.lease_ms else "closed except manage"
        dies = f"; if the warden dies: {status.gate.closes}" if status.gate.closes else ""
        rows.append(("gate", lease + dies if status.gate.installed else f"NOT INSTALLED{dies}"))
        if status.gate.flushed:
            rows.append(("rules", f"if somebody else deletes them: {status.gate.flushed}"))
        if status.gate.out_of_reach:
            rows.append(("out of reach", "; ".join(status.gate.out_of_reach)))
    if status.journal is not None:
        writable = "" if status.journal.writable else ", NOT WRITABLE"
        rows.append(("journal", f"{status.journal.size} records{writable}"))
    rows += [("note", note) for note in status.notes]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def why(status: Status) -> str:
    """Every finding as a table, the bad ones first."""
    findings: list[tuple[str, Finding]] = [("-", f) for f in status.decision.findings]
    for verdict in status.decision.verdicts:
        findings += [(verdict.fence, finding) for finding in verdict.findings]
    if not findings:
        return "no findings"
    order = {Answer.DENY: 0, Answer.UNKNOWN: 1, Answer.ALLOW: 2}
    findings.sort(key=lambda pair: order[pair[1].answer])
    return table(
        ("answer", "fence", "finding", "expected", "found", "source"),
        [(f.answer, fence, f.id, f.expected, f.found, f.source) for fence, f in findings],
    )
