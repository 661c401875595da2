# SPDX-License-Identifier: Apache-2.0
"""A statement in a fw_cfg item: qemu -fw_cfg name=opt/org.vmwarden/statement,file=FILE.

The kernel's driver asks the hypervisor anew on every read, so that after a live migration the item of the
new host is seen, up to the size that the item had when the driver was loaded.
"""

from vmwarden.errors import SourceUnavailable, UntrustedInput
from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import statement_carrier

ITEM = "opt/org.vmwarden/statement"
_PATH = f"/sys/firmware/qemu_fw_cfg/by_name/{ITEM}/raw"
_LIMIT = 2 * statement_carrier.ITEM_BYTES
#: mode 0400
ROOT_ONLY = (_PATH,)


class FwCfg:
    """The carrier of one static statement."""

    name = "fw_cfg"
    live_only = False

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        try:
            tokens = (self._token(tree),)
        except SourceUnavailable as error:
            return (statement_carrier.absent(self.name, str(error), now),)
        except UntrustedInput as error:
            return (statement_carrier.refused(self.name, error, now),)
        return statement_carrier.unread(self.name, tokens, now)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        try:
            return (self._token(tree),)
        except (SourceUnavailable, UntrustedInput):
            return ()  # read says why

    def _token(self, tree: Tree) -> str:
        return statement_carrier.from_item(tree.read(_PATH, _LIMIT))
