# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself, signed."""

from typing import Annotated

from msgspec import Meta

from vmwarden.model.policy import Country, Name, Text
from vmwarden.model.wire import Wire

#: the JWS header's typ
STATEMENT_TYPE = "vmwarden-statement+jwt"
#: bound on a compact JWS, bytes: a statement with 32 labels is about 2 kB
STATEMENT_BYTES = 8192


class Label(Wire, frozen=True, kw_only=True):
    """A compliance label and the instant (seconds since 1970) at which it lapses."""

    name: Text
    until: Annotated[int, Meta(ge=0, le=2**53)]


class Audience(Wire, frozen=True, kw_only=True):
    """For whom a statement was made."""

    vm: Name
    generation: Annotated[int, Meta(ge=1, le=2**31)]


class HostStatement(Wire, frozen=True, kw_only=True):
    """Payload of the JWS.  iat and exp are seconds since 1970; nonce is base64url, absent if static."""

    aud: Audience
    iat: Annotated[int, Meta(ge=0, le=2**53)]
    exp: Annotated[int, Meta(ge=0, le=2**53)]
    host_id: Text
    host_name: Text | None = None
    country: Country | None = None
    subdivision: Text | None = None
    city: Text | None = None
    postal_code: Text | None = None
    time_zone: Text | None = None
    building: Text | None = None
    hypervisor: Text | None = None
    hypervisor_version: Text | None = None
    compliance: Annotated[tuple[Label, ...], Meta(max_length=32)] = ()
    nonce: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22,64}$")] | None = None


class Challenge(Wire, frozen=True, kw_only=True, tag_field="type", tag="challenge"):
    """The warden's question to the host: who are you, now?  "type" always stands on the wire."""

    aud: Audience
    nonce: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22,64}$")]


class StatementReply(Wire, frozen=True, kw_only=True, tag_field="type", tag="statement"):
    """The host's answer: a compact JWS."""

    jws: Annotated[str, Meta(max_length=STATEMENT_BYTES)]
