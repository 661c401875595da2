# SPDX-License-Identifier: Apache-2.0
"""What the VM does to itself, one file a control.  Blind to each other."""
