# SPDX-License-Identifier: Apache-2.0
"""Protocols, one a file: what a room promises, so that a fake can stand in its place."""
