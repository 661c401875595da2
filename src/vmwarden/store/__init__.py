# SPDX-License-Identifier: Apache-2.0
"""Journal and state on disk."""
