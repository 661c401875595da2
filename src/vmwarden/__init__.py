# SPDX-License-Identifier: Apache-2.0
"""vmwarden: the warden that lives inside a virtual machine and makes the VM own its security."""

__version__ = "0.1.0"
