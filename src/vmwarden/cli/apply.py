# SPDX-License-Identifier: Apache-2.0
"""apply, confirm: the only delivery, with a way back."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vmwarden.cli.render import emit, json_option, root_option
from vmwarden.errors import Expired, UsageError
from vmwarden.model.installed import Change
from vmwarden.model.moment import Moment
from vmwarden.rules.duration import milliseconds

if TYPE_CHECKING:
    from vmwarden.store.layout import Layout


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this module."""
    apply = commands.add_parser(
        "apply", help="take a signed policy, or the successor of the owners, in force on this VM"
    )
    what = apply.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what vmwarden policy sign wrote")
    what.add_argument("--revert", action="store_true", help="take the policy on trial back now")
    apply.add_argument(
        "--confirm-within",
        default="",
        metavar="TIME",
        help="revert by itself unless vmwarden confirm comes over a new connection within TIME, like 2m",
    )
    json_option(apply)
    root_option(apply)
    apply.set_defaults(run=_apply)

    confirm = commands.add_parser("confirm", help="keep the policy that is on trial")
    json_option(confirm)
    root_option(confirm)
    confirm.set_defaults(run=_confirm)


def report(args: argparse.Namespace, schema: str, changes: tuple[Change, ...], *, informed: bool) -> None:
    """Print what was done, and whether the warden knows of it already."""
    lines = [_line(change) for change in changes] or ["nothing to do: it is in force already"]
    if changes and not informed:
        lines.append("no warden is running here; it will read this when it starts")
    document = {
        "schema": schema,
        "changes": [{"kind": change.kind, **change.body} for change in changes],
        "warden_informed": informed,
    }
    emit(args, document, "\n".join(lines))


def _apply(args: argparse.Namespace) -> int:
    from vmwarden.linux import session
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.files import read_bounded
    from vmwarden.rules.trust import SIGNED_BYTES
    from vmwarden.rules.trusted_time import utc
    from vmwarden.store import delivery, unrecorded
    from vmwarden.store.floors import time_floor
    from vmwarden.store.layout import Layout
    from vmwarden.store.notify import notify_warden
    from vmwarden.warden.memory import closed_rules

    layout, now = Layout.below(args.root), SystemClock().now()
    _settle(layout, now)
    if args.revert:
        if args.confirm_within:
            raise UsageError("--revert stands alone")
        changes = delivery.revert(layout, now=now, closed_rules=closed_rules)
    else:
        changes = delivery.apply(
            layout,
            read_bounded(args.file.resolve(), SIGNED_BYTES),
            now=now,
            utc_ms=utc(now, None, time_floor(layout)),
            session=session.current(),
            closed_rules=closed_rules,
            within_ms=milliseconds(args.confirm_within) if args.confirm_within else None,
        )
    unrecorded.add(layout, changes, now)
    report(args, "vmwarden.apply/1", changes, informed=bool(changes) and notify_warden(layout))
    return 0


def _confirm(args: argparse.Namespace) -> int:
    from vmwarden.linux import session
    from vmwarden.linux.clock import SystemClock
    from vmwarden.store import delivery, unrecorded
    from vmwarden.store.layout import Layout
    from vmwarden.store.notify import notify_warden
    from vmwarden.warden.memory import closed_rules

    layout, now = Layout.below(args.root), SystemClock().now()
    if any(change.kind == "policy.reverted" for change in _settle(layout, now)):
        notify_warden(layout)
        raise Expired("too late: the policy was taken back", mend="apply it again")
    changes = delivery.confirm(layout, now=now, session=session.current(), closed_rules=closed_rules)
    unrecorded.add(layout, changes, now)
    report(args, "vmwarden.confirm/1", changes, informed=notify_warden(layout))
    return 0


def _settle(layout: "Layout", now: Moment) -> tuple[Change, ...]:
    """What was due or left unfinished before this command came; kept for the journal on its own, because
    the command itself may be refused."""
    from vmwarden.store import delivery, unrecorded
    from vmwarden.warden.memory import closed_rules

    changes = delivery.settle(layout, now, closed_rules=closed_rules)
    unrecorded.add(layout, changes, now)
    return changes


def _line(change: Change) -> str:
    body = change.body
    what = f"policy {body.get('name')} version {body.get('version')} ({body.get('mode')})"
    match change.kind:
        case "policy.applied" if body.get("within_ms"):
            time = f"{body['within_ms'] // 1000} s"
            return f"{what} is on trial for {time}: log in anew and run vmwarden confirm, or it is taken back"
        case "policy.applied":
            return f"{what} applied"
        case "policy.confirmed":
            return f"{what} confirmed"
        case "policy.reverted":
            return f"{what} taken back: {body.get('why')}"
        case "policy.apply-undone":
            return f"an application of {what} that had been cut off is undone"
        case "vm.armed":
            return "this VM is armed: without a readable policy it is closed except manage"
        case "vm.disarmed":
            return "this VM is not armed any more"
        case "owners.rotated":
            return f"owners version {body.get('version')}: {', '.join(body.get('keys', []))}"
        case "vm.purged":
            return f"{body.get('vm')} generation {body.get('generation')} is no more; owners and journal stay"
        case "floors.recovered":
            return f"floors made anew at version {body.get('version')}: {body.get('why')}"
        case _:
            return f"{change.kind} {', '.join(f'{key}={value}' for key, value in body.items())}"
