# SPDX-License-Identifier: Apache-2.0
"""What a policy may say and its author should think about twice."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from vmwarden.model.policy import Place, Policy, Reach, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.model.time_servers import TrustedTime
from vmwarden.rules import duration, time_servers
from vmwarden.rules.sound import Unsound


def cautions(policy: Policy) -> Iterator[Unsound]:
    """Warnings in the order of the policy's fields."""
    if policy.mode == "enforce" and not policy.manage.in_:
        yield Unsound(
            ("mode",),
            "enforce without manage.in: a closed VM lets nobody in, its console apart",
            "list under manage.in where you administer it from",
            (("manage",),),
        )
    if policy.mode == "enforce" and policy.place is None and policy.host is None and policy.hours is None:
        yield Unsound(
            ("mode",),
            "enforce without place, host and hours: nothing is judged",
            "add a fence",
            (("place",), ("host",), ("hours",)),
        )
    if policy.place is not None:
        yield from _place(policy.place)
        yield from _ladder("place", policy.place.wrong or ())
    if policy.host is not None:
        yield from _ladder("host", policy.host.wrong or ())
    if policy.trust.time is not None:
        yield from _time(policy.trust.time, policy.reach)


def _time(time: TrustedTime, reach: tuple[Reach, ...]) -> Iterator[Unsound]:
    for need in time_servers.needs(time):
        try:
            address = ip_address(need.address)
        except ValueError:
            continue  # rules.sound says so
        to, port = ip_network(address), f"tcp: {need.tcp}" if need.tcp is not None else f"udp: {need.udp}"
        ways = [(one.to, one.tcp, one.udp) for one in reach]
        if (str(to), need.tcp, need.udp) not in ways:
            yield Unsound(
                ("trust", "time", "servers", need.server),
                f"{need.address} cannot be asked over {port.replace(':', '')} while the VM is closed",
                f"add to reach: {{{port}, to: {to}, as: vmwarden}}",
                (("reach",),),
            )


def _place(place: Place) -> Iterator[Unsound]:
    if place.proof == "declared":
        yield Unsound(
            ("place", "proof"),
            "declared: whatever the host writes into its firmware tables is believed",
            "signed or fresh, with the hosts' keys in trust.hosts",
        )
    if place.issued_within is not None and place.proof == "signed":
        yield Unsound(
            ("place", "issued_within"),
            "a static statement keeps the stamp of the VM's launch: after "
            f"{place.issued_within} of running it counts no more",
            "have the host answer challenges (companion serve), or leave issued_within out",
        )


def _ladder(fence: str, rungs: tuple[WrongRung, ...]) -> Iterator[Unsound]:
    if rungs and duration.milliseconds(rungs[0].after) > 0 and rungs[0].posture is Posture.GUARDED:
        yield Unsound(
            (fence, "wrong", 0),
            f"until {rungs[0].after} have passed the VM is held, and guarded does not loosen that",
            "begin with after: 0s",
        )
    for index, rung in enumerate(rungs):
        if rung.posture is Posture.POWEROFF:
            yield Unsound(
                (fence, "wrong", index, "posture"),
                "poweroff: where a power-off terminates the VM (spot and scale-set instances), it is lost",
                "end the ladder with quarantined there",
            )
        if rung.ask is not None:
            yield Unsound(
                (fence, "wrong", index, "ask"),
                "this version writes an ask into the journal and sends it to nobody yet",
            )
