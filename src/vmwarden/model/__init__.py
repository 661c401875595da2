# SPDX-License-Identifier: Apache-2.0
"""Frozen nouns.  No verbs that touch the world, no rules: those are in vmwarden.rules."""
