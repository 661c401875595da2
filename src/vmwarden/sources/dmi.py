# SPDX-License-Identifier: Apache-2.0
"""What the firmware says of the machine: /sys/class/dmi/id.

The kernel reads DMI once, at boot.  After a live migration it still shows the old host's strings.
"""

from vmwarden.errors import Malformed, SourceUnavailable
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim

_FOLDER = "/sys/class/dmi/id"
#: an SMBIOS string is at most 64 characters by the letter; the kernel hands out a page
_LIMIT = 4096
#: a claim is one file, or two joined by a space
_CLAIMS = (
    (Subject.PRODUCT, ("sys_vendor", "product_name")),
    (Subject.FIRMWARE, ("bios_vendor", "bios_version")),
    (Subject.SERIAL, ("product_serial",)),
    (Subject.VM_UUID, ("product_uuid",)),
)
#: mode 0400
ROOT_ONLY = (f"{_FOLDER}/product_serial", f"{_FOLDER}/product_uuid")


class Dmi:
    """Product, firmware, serial number and UUID."""

    name = "dmi"
    live_only = False

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        return tuple(self._claim(tree, now, subject, files) for subject, files in _CLAIMS)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        return ()

    def _claim(self, tree: Tree, now: Moment, subject: Subject, files: tuple[str, ...]) -> Evidence:
        texts: list[str] = []
        reason = ""
        for file in files:
            path = f"{_FOLDER}/{file}"
            try:
                text = claim.printable(tree.read(path, _LIMIT), path)
            except SourceUnavailable as error:
                reason = reason or str(error)
            except Malformed as error:
                return claim.unavailable(self.name, subject, str(error), now, boot_frozen=True)
            else:
                texts.append(text)
        value = " ".join(text for text in texts if text)
        if not value:
            return claim.unavailable(
                self.name, subject, reason or f"{_FOLDER}/{files[0]}: empty", now, boot_frozen=True
            )
        return claim.declared(self.name, subject, value[: claim.VALUE_CHARACTERS], now, boot_frozen=True)
