# SPDX-License-Identifier: Apache-2.0
import base64

import msgspec
import pytest

from vmwarden.model.time_servers import TimeServer, TrustedTime
from vmwarden.rules.time_servers import Need, flaws, leads_there, needs, period_ms

PIN = "sha256:" + base64.b64encode(bytes(32)).decode()
DER = base64.b64encode(b"0\x03\x02\x01\x00").decode()


def server(number: int, **fields: object) -> TimeServer:
    given: dict[str, object] = {"name": f"ntp{number}.example.net", "address": f"192.0.2.{number}"}
    return msgspec.convert(given | fields, TimeServer)


def trusted(*servers: TimeServer, **fields: object) -> TrustedTime:
    return TrustedTime(
        servers=servers + tuple(server(number) for number in range(100, 103 - len(servers))),
        **({"authorities": (DER,)} | fields),  # type: ignore[arg-type]
    )


def test_a_sound_list_has_no_flaw() -> None:
    assert list(flaws(trusted(server(1, keys=[PIN]), server(2, address="2001:db8::1")))) == []


@pytest.mark.parametrize(
    ("time", "path", "said"),
    [
        (trusted(server(1), server(1, address="192.0.2.9")), ("servers", 1, "name"), "there twice"),
        (trusted(server(1), server(2, address="192.0.2.1")), ("servers", 1), "same address and port"),
        (
            trusted(server(1, address="2001:db8::1"), server(2, address="2001:db8:0::1")),
            ("servers", 1),
            "same address",
        ),
        (trusted(server(1), server(2, ntp_address="192.0.2.1")), ("servers", 1), "same address"),
        (trusted(server(1, address="1.2.3")), ("servers", 0, "address"), "is no address"),
        (trusted(server(1, address="224.0.1.1")), ("servers", 0, "address"), "nobody's address"),
        (trusted(server(1, ntp_address="::")), ("servers", 0, "ntp_address"), "nobody's address"),
        (
            trusted(server(1, keys=[PIN]), server(2, keys=[PIN])),
            ("servers", 1, "keys", 0),
            "is a key of ntp1.example.net too",
        ),
        (trusted(server(1, keys=[PIN[:-2] + "B="])), ("servers", 0, "keys", 0), "no SHA-256"),
        (trusted(server(1, keys=[PIN]), authorities=()), ("servers", 1), "has no keys"),
        (trusted(authorities=("A",)), ("authorities", 0), "not base64"),
        (trusted(round_trip="3s"), ("round_trip",), "not within"),
        (trusted(round_trip="9ms"), ("round_trip",), "not within"),
    ],
)
def test_every_flaw_has_its_place(time: TrustedTime, path: tuple[object, ...], said: str) -> None:
    found = [flaw for flaw in flaws(time) if flaw.path == path]
    assert found, list(flaws(time))
    assert said in found[0].message
    assert found[0].mend


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Ntp.example"},
        {"name": "-a.example"},
        {"name": "a..b"},
        {"name": ""},
        {"address": "ntp.example.net"},
        {"port": 0},
        {"ntp_port": 65536},
        {"keys": ["sha256:x"]},
        {"keys": [PIN] * 5},
        {"other": 1},
    ],
)
def test_what_the_form_refuses(fields: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        server(1, **fields)


@pytest.mark.parametrize("count", [0, 2, 10])
def test_fewer_than_three_and_more_than_nine_are_refused(count: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"servers": [msgspec.to_builtins(server(n)) for n in range(count)]}, TrustedTime)


def test_what_has_to_be_reached_while_closed() -> None:
    time = trusted(server(1, port=4461), server(2, ntp_address="192.0.2.77", ntp_port=1123))
    assert needs(time)[:4] == (
        Need(0, "192.0.2.1", tcp=4461),
        Need(0, "192.0.2.1", udp=123),
        Need(1, "192.0.2.2", tcp=4460),
        Need(1, "192.0.2.77", udp=1123),
    )
    assert len(needs(time)) == 6


@pytest.mark.parametrize(
    ("fields", "name", "port", "there"),
    [
        ({}, None, None, True),
        ({}, None, 123, True),
        ({}, None, 4123, False),
        ({"ntp_port": 4123}, None, 4123, True),
        ({"ntp_port": 4123}, None, None, False),
        ({}, "192.0.2.1", None, True),
        ({}, "192.0.2.2", None, False),
        ({}, "NTP1.example.net.", None, True),
        ({}, "other.example.net", None, False),
        ({"ntp_address": "192.0.2.7"}, "192.0.2.7", None, True),
        ({"ntp_address": "192.0.2.7"}, None, None, True),
        ({"ntp_address": "192.0.2.7"}, "ntp1.example.net", None, False),
        ({"ntp_address": "192.0.2.7"}, "192.0.2.1", None, False),
        ({"address": "2001:db8::1"}, "2001:0db8:0::1", None, True),
    ],
)
def test_a_server_is_asked_where_the_policy_has_it_and_nowhere_else(
    fields: dict[str, object], name: str | None, port: int | None, there: bool
) -> None:
    assert leads_there(server(1, **fields), name=name, port=port) is there


def test_questions_come_three_times_while_a_stamp_counts() -> None:
    assert period_ms(None) == 64_000
    assert period_ms(60_000) == 20_000
    assert period_ms(1_000) == 16_000
