# SPDX-License-Identifier: Apache-2.0
"""Public fakes: clock, host, tree, gate.  For our tests and for yours."""
