# SPDX-License-Identifier: Apache-2.0
"""Pure rules: no clock, no file, no socket, no randomness.  Time comes in as a Moment."""
