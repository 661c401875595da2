# SPDX-License-Identifier: Apache-2.0
"""enrol, image prepare, purge: the beginning and the end of a VM's life."""

import argparse
import sys
from pathlib import Path

from vmwarden.cli.apply import report
from vmwarden.cli.render import emit, json_option, root_option
from vmwarden.errors import UsageError
from vmwarden.model.signed import SignedDocument


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this module."""
    enrol = commands.add_parser("enrol", help="give this VM its name, its key and its owners")
    enrol.add_argument("--vm", metavar="NAME", help="name under which the owners know this VM")
    enrol.add_argument(
        "--owners",
        type=Path,
        metavar="FILE",
        help="keys and thresholds (docs/reference/enrolment.md); may be left out where the image brings them",
    )
    enrol.add_argument("--generation", type=int, metavar="N", help="which life of that name this is (1)")
    enrol.add_argument(
        "--renew",
        action="store_true",
        help="keep the name, take the next generation and a new key: for a clone that may live",
    )
    json_option(enrol)
    root_option(enrol)
    enrol.set_defaults(run=_enrol)

    image = commands.add_parser("image", help="golden images")
    what = image.add_subparsers(dest="what", metavar="WHAT", required=True)
    prepare = what.add_parser("prepare", help="strip all that makes this VM this VM; owners.json stays")
    prepare.add_argument(
        "--purge-order", type=Path, metavar="FILE", help="the owners' word, needed while the VM is armed"
    )
    json_option(prepare)
    root_option(prepare)
    prepare.set_defaults(run=_prepare)

    purge = commands.add_parser("purge", help="forget enrolment, policy and latch, as the owners ordered")
    which = purge.add_mutually_exclusive_group(required=True)
    which.add_argument("--order", type=Path, metavar="FILE", help="the order that the owners signed")
    which.add_argument(
        "--request",
        action="store_true",
        help="print the unsigned order; the owners sign it with vmwarden policy sign --add",
    )
    json_option(purge)
    root_option(purge)
    purge.set_defaults(run=_purge)


def _enrol(args: argparse.Namespace) -> int:
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.files import read_bounded
    from vmwarden.rules import sshkey
    from vmwarden.rules.trust import OWNERS_BYTES
    from vmwarden.store import enrolment_file, unrecorded
    from vmwarden.store.layout import Layout
    from vmwarden.store.notify import notify_warden

    layout = Layout.below(args.root)
    if args.renew:
        if args.vm or args.owners:
            raise UsageError("--renew keeps name and owners: leave out --vm and --owners")
        enrolment = enrolment_file.renew(layout, generation=args.generation)
    else:
        if not args.vm:
            raise UsageError("say how the owners call this VM: --vm NAME")
        enrolment = enrolment_file.enrol(
            layout,
            vm=args.vm,
            owners=read_bounded(args.owners.resolve(), OWNERS_BYTES) if args.owners else None,
            generation=1 if args.generation is None else args.generation,
        )
    unrecorded.add(layout, (enrolment_file.change(enrolment),), SystemClock().now())
    fingerprint = sshkey.parse(enrolment.key).fingerprint
    informed = notify_warden(layout)
    emit(
        args,
        {
            "schema": "vmwarden.enrol/1",
            "vm": enrolment.vm,
            "generation": enrolment.generation,
            "identity": fingerprint,
            "key": enrolment.key,
            "warden_informed": informed,
        },
        f"enrolled as {enrolment.vm}, generation {enrolment.generation}\n"
        f"identity {fingerprint}\n{enrolment.key}",
    )
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from vmwarden.store import delivery
    from vmwarden.store.layout import Layout
    from vmwarden.store.notify import notify_warden

    layout = Layout.below(args.root)
    order = _order(args.purge_order) if args.purge_order is not None else None
    removed = delivery.prepare_image(layout, order=order)
    informed = notify_warden(layout)
    emit(
        args,
        {"schema": "vmwarden.image-prepare/1", "removed": removed, "warden_informed": informed},
        "\n".join(f"removed {name}" for name in removed) or "nothing to remove",
    )
    return 0


def _purge(args: argparse.Namespace) -> int:
    from vmwarden.linux.clock import SystemClock
    from vmwarden.rules import canonical
    from vmwarden.rules.delivery import purge_order
    from vmwarden.store import cells, delivery, unrecorded
    from vmwarden.store.layout import Layout
    from vmwarden.store.notify import notify_warden

    layout = Layout.below(args.root)
    if args.request:
        order = canonical.encode(purge_order(cells.read(layout)))
        # the very document, for a file: a line feed at its end would not be canonical
        sys.stdout.write(canonical.encode(SignedDocument(payload=order.decode())).decode())
        return 0
    changes = delivery.purge(layout, _order(args.order))
    unrecorded.add(layout, changes, SystemClock().now())
    report(args, "vmwarden.purge-report/1", changes, informed=notify_warden(layout))
    return 0


def _order(path: Path) -> SignedDocument:
    from vmwarden.linux.files import read_bounded
    from vmwarden.rules.trust import SIGNED_BYTES, read_signed

    return read_signed(read_bounded(path.resolve(), SIGNED_BYTES))
