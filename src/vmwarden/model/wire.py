# SPDX-License-Identifier: Apache-2.0
"""The form of everything that crosses a line of trust."""

from typing import Annotated

import msgspec
from msgspec import Meta

#: What every reader of JSON keeps exactly (RFC 8259, section 6): what a record of the journal may hold.
#: Without a bound a number may have 4300 digits, and the next one that is made of it cannot be written.
Number = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A noun that is written to a socket, a disk or a signature.

    Unknown fields are refused, and vmwarden.rules.canonical refuses bytes that are not the one
    canonical encoding.  Only str, bool, int, None, tuple, dict and other Wire: floats have no
    canonical form that all languages agree on.
    """
