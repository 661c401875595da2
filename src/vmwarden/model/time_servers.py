# SPDX-License-Identifier: Apache-2.0
"""Whose word counts about the time: servers of NTS (RFC 8915) that the owner lists.

Addresses are literal: a closed VM asks no DNS.  vmwarden.rules.time_servers says what is wrong with a list.
"""

from typing import Annotated

from msgspec import Meta

from vmwarden.model.wire import Wire

#: port of NTS key establishment and port of NTP (RFC 8915 section 4; RFC 5905 section 7.2)
KE_PORT, NTP_PORT = 4460, 123
#: fewest servers: with two, nobody could say which of them lies
FEWEST = 3
#: most servers: each is a datagram a round, and 9 outvote 4 liars
MOST = 9

_Port = Annotated[int, Meta(ge=1, le=65535)]
#: the form of vmwarden.model.policy.Duration, whose module imports this one
_Duration = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(ms|s|m|h|d)$", description="like 60s, 10m, 24h")]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
        max_length=253,
        description="lower case, as its certificate has it",
    ),
]
Address = Annotated[
    str, Meta(pattern=r"^[0-9a-fA-F:.]+$", max_length=45, description="one literal IPv4 or IPv6 address")
]
Pin = Annotated[
    str,
    Meta(pattern=r"^sha256:[A-Za-z0-9+/]{43}=$", description="sha256: and the digest of the SPKI in base64"),
]
Authority = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=8192, description="a certificate, DER in base64"),
]


class TimeServer(Wire, frozen=True, kw_only=True):
    """One server.  name: what its certificate has to say.  address, port: of its key establishment (TCP).

    ntp_address, ntp_port: where it gives the time (UDP); None = at address.  A server that sends its clients
    elsewhere is not followed.  keys: pins of its public key, any of which suffices, instead of an authority.
    """

    name: HostName
    address: Address
    port: _Port = KE_PORT
    ntp_address: Address | None = None
    ntp_port: _Port = NTP_PORT
    keys: Annotated[tuple[Pin, ...], Meta(max_length=4)] = ()


class TrustedTime(Wire, frozen=True, kw_only=True):
    """authorities: roots of the certificates of servers without keys.  More than half of the servers listed
    have to agree.  round_trip: an answer that takes longer is refused.
    """

    servers: Annotated[tuple[TimeServer, ...], Meta(min_length=FEWEST, max_length=MOST)]
    authorities: Annotated[tuple[Authority, ...], Meta(max_length=4)] = ()
    round_trip: _Duration = "500ms"
