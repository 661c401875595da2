# SPDX-License-Identifier: Apache-2.0
"""What could carry packets around both layers of the gate, and switching a device off.

Neither layer sees what XDP, tc before our hook, or AF_XDP does with a packet, nor a NIC that was moved to
another network namespace.  This looks for them; it takes nothing of anybody's away.  While the gate closes
each is a finding, and from quarantined on the warden may switch the device off.

An id each, as docs/reference/findings.md lists them.  What can be read of a device's programs is only that
they are there: one that does nothing but count is a finding, too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from vmwarden.errors import ControlFailed
from vmwarden.linux import bpf, sockets_in_use
from vmwarden.linux.other_ways import other_ways
from vmwarden.linux.rtnetlink import Links
from vmwarden.model.link import GoneUplink, Link, Uplink
from vmwarden.model.verdict import Answer, Finding

_SOURCE = "gate"
#: Begins the name that a device has besides while we have switched it off; its index follows.  So the mark
#: lives as long as what it tells of: our memory is gone with a crash, a file outlives the boot.
_OFF = "vmwarden-off-"


class WayAround:
    """Works in the network namespace in which it is used first.  Needs CAP_NET_ADMIN for tcx.  One thread."""

    def __init__(self) -> None:
        self._links: Links | None = None

    def look(
        self,
        uplinks: Iterable[Uplink],
        *,
        gone: Iterable[GoneUplink] = (),
        ungated: Mapping[str, str] | None = None,
    ) -> tuple[Finding, ...]:
        """Every way around that there is now.  uplinks, gone, ungated: as the second layer has them.

        What cannot be read is a finding, too; it raises nothing.
        """
        watched = {uplink.index: uplink.name for uplink in uplinks}
        findings = [_found("gate.around.ungated", name, reason) for name, reason in (ungated or {}).items()]
        findings += (_gone(each) for each in gone)
        for what in (self._xdp, self._tc, self._af_xdp):
            findings += _readable(what, watched)
        return tuple(findings)

    def link_down(self, uplink: Uplink) -> None:
        """Switch it off: nothing passes it any more, manage neither.  Raises ControlFailed.

        Whoever may switch it on again may do so; then it is a finding again, and its gate still stands.
        """
        try:
            self._devices().add_altname(uplink.index, f"{_OFF}{uplink.index}")
        except ControlFailed:
            pass  # it is marked already, or cannot be: it is switched off all the same
        self._devices().switch_off(uplink.index)

    def link_up(self, uplink: Uplink) -> None:
        """Switch it on again, if it is still there.  Raises ControlFailed."""
        for link in self._devices().all():
            if link.index == uplink.index:
                self._devices().switch_on(link.index)
                for altname in _marks(link):
                    self._devices().remove_altname(link.index, altname)

    def switched_off(self) -> tuple[Uplink, ...]:
        """Devices that are off by link_down, also of a warden before us.  Raises ControlFailed."""
        return tuple(Uplink(link.index, link.name) for link in self._devices().all() if _marks(link))

    def unjudged(self) -> tuple[str, ...]:
        """See ports.second_layer."""
        return other_ways()

    def close(self) -> None:
        if self._links is not None:
            self._links.close()
            self._links = None

    def _xdp(self, watched: Mapping[int, str]) -> Iterator[Finding]:
        for link in self._devices().all():
            if link.index in watched and link.xdp:
                programs = ", ".join(str(number) for number in link.xdp)
                yield _found("gate.around.xdp", link.name, f"XDP program {programs}")

    def _tc(self, watched: Mapping[int, str]) -> Iterator[Finding]:
        # What is redirected to an uplink by a filter of any device is not judged there: neither what was on
        # its way out nor what was on its way in (measured on 6.18).
        links = {link.index: link.name for link in self._devices().all()}
        hanging: dict[int, list[str]] = {}
        for each in self._devices().filters():
            if each.index in watched or each.redirects:
                hanging.setdefault(each.index, []).append(f"{each.kind} filter at {each.direction}")
        for index in links:
            for direction, count in bpf.tcx(index).items():
                hanging.setdefault(index, []).append(f"{count} tcx program(s) at {direction}")
        for index, found in sorted(hanging.items()):
            yield _found("gate.around.tc", links.get(index, f"device {index}"), ", ".join(found))

    def _af_xdp(self, _: Mapping[int, str]) -> Iterator[Finding]:
        count = sockets_in_use.af_xdp()
        if count:
            yield _found("gate.around.af-xdp", "any uplink", f"{count} AF_XDP socket(s)")

    def _devices(self) -> Links:
        if self._links is None:
            self._links = Links()
        return self._links


def _marks(link: Link) -> list[str]:
    return [altname for altname in link.altnames if altname.startswith(_OFF)]


def _readable(
    what: Callable[[Mapping[int, str]], Iterator[Finding]], watched: Mapping[int, str]
) -> list[Finding]:
    try:
        return list(what(watched))
    except ControlFailed as error:
        return [Finding(id="gate.around.unreadable", answer=Answer.UNKNOWN, found=str(error), source=_SOURCE)]


def _found(id: str, device: str, found: str) -> Finding:
    return Finding(
        id=id,
        answer=Answer.DENY,
        subject=device,
        expected="no way around the gate",
        found=found,
        source=_SOURCE,
    )


def _gone(each: GoneUplink) -> Finding:
    known = each.namespace is not None
    return Finding(
        id="gate.around.uplink-gone",
        answer=Answer.DENY if known else Answer.UNKNOWN,
        subject=each.uplink.name,
        expected="in this network namespace",
        found=f"in namespace {each.namespace}, device {each.index}"
        if known
        else "gone while events were lost",
        source=_SOURCE,
    )
