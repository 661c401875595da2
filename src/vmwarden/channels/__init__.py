# SPDX-License-Identifier: Apache-2.0
"""Ways to the host, one file a channel.  Blind to each other."""
