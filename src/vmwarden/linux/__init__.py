# SPDX-License-Identifier: Apache-2.0
"""The only door to the operating system: processes, netlink, clocks, files below a root, systemd."""
