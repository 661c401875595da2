# SPDX-License-Identifier: Apache-2.0
"""The owner's desk: writes, checks and signs policies.  Never needed in the VM."""
