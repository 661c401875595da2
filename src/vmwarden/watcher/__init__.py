# SPDX-License-Identifier: Apache-2.0
"""The unprivileged program that looks outside; it decides nothing."""
