# SPDX-License-Identifier: Apache-2.0
"""Statements on SMBIOS OEM strings (type 11), fixed when the VM was started."""

from vmwarden.errors import SourceUnavailable, UntrustedInput
from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import smbios, statement_carrier

_TABLE = "/sys/firmware/dmi/tables/DMI"
_ENTRIES = "/sys/firmware/dmi/entries"
#: an SMBIOS 2.x table is below 64 kB by its 16-bit length; QEMU's 3.x ones too
_LIMIT = 131072
#: mode 0400
ROOT_ONLY = (_TABLE, *(f"{_ENTRIES}/11-{n}/raw" for n in range(4)))


class Smbios:
    """The carrier of statements that libvirt and QEMU fill with <oemStrings> and -smbios type=11."""

    name = "smbios"
    live_only = False

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        try:
            tokens = self._tokens(tree)
        except SourceUnavailable as error:
            return (statement_carrier.absent(self.name, str(error), now),)
        except UntrustedInput as error:
            return (statement_carrier.refused(self.name, error, now),)
        if not tokens:
            return (statement_carrier.absent(self.name, "no OEM string is a statement", now),)
        return statement_carrier.unread(self.name, tokens, now)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        try:
            return self._tokens(tree)
        except (SourceUnavailable, UntrustedInput):
            return ()  # read says why

    def _tokens(self, tree: Tree) -> tuple[str, ...]:
        try:
            strings = smbios.oem_strings(tree.read(_TABLE, _LIMIT))
        except SourceUnavailable as error:
            strings = self._entries(tree, error)
        return statement_carrier.from_strings(strings)

    def _entries(self, tree: Tree, why: SourceUnavailable) -> tuple[bytes, ...]:
        """The same structures one by one, where only the module dmi-sysfs shows them."""
        try:
            names = [name for name in tree.list(_ENTRIES) if name.startswith("11-")]
        except SourceUnavailable:
            raise why from None
        strings: list[bytes] = []
        for name in names[:8]:
            strings += smbios.oem_strings(tree.read(f"{_ENTRIES}/{name}/raw", _LIMIT))
        return tuple(strings)
