# SPDX-License-Identifier: Apache-2.0
"""Where evidence comes from, one file a source.  Blind to each other."""
