# SPDX-License-Identifier: Apache-2.0
"""The form of everything that crosses a line of trust."""

import msgspec


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A noun that is written to a socket, a disk or a signature.

    Unknown fields are refused, and vmwarden.rules.canonical refuses bytes that are not the one
    canonical encoding.  Only str, bool, int, None, tuple, dict and other Wire: floats have no
    canonical form that all languages agree on.
    """
