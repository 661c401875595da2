# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 - the table is read one case a line
"""owner.diff: what changed, at which path, in which direction."""

from typing import Any

import msgspec
import pytest

from vmwarden.model.policy import Policy
from vmwarden.owner.diff import Direction, changes

BASE: dict[str, Any] = {
    "format": "vmwarden.policy/1",
    "name": "payments",
    "version": 7,
    "vms": ["a"],
    "valid": {"from": "2026-11-01T00:00Z", "until": "2027-11-01T00:00Z"},
    "mode": "observe",
    "manage": {"in": [{"tcp": 22, "from": "10.0.0.0/8"}]},
    "scopes": [{"name": "db", "in": [{"tcp": 5432, "from": "10.0.0.0/8"}]}],
    "place": {"any_of": [{"country": "DE"}, {"country": "NL"}]},
    "trust": {"hosts": [{"name": "r7", "key": "ssh-ed25519 AAAA"}]},
}


def _policy(**changed: Any) -> Policy:
    return msgspec.convert({**BASE, **changed}, Policy)


def _place(**changed: Any) -> Policy:
    return _policy(place={**BASE["place"], **changed})


S, L, U = Direction.STRICTER, Direction.LOOSER, Direction.UNCLEAR
CASES: list[tuple[Policy, list[tuple[str, str, str, Direction]]]] = [
    (_policy(), []),
    (_policy(version=8), [("version", "7", "8", U)]),
    (_policy(mode="enforce"), [("mode", "observe", "enforce", S)]),
    (_policy(vms=["a", "b"]), [("vms", "", "b", U)]),
    (_policy(gate={"lease": "1s"}), [("gate.lease", "5s", "1s", S)]),
    (_policy(gate={"lease": "5s"}), []),
    (_place(proof="signed", agree=1, recheck="60s"), []),
    (_place(proof="fresh"), [("place.proof", "signed", "fresh", S)]),
    (_place(proof="declared"), [("place.proof", "signed", "declared", L)]),
    (_place(agree=2), [("place.agree", "1", "2", S)]),
    (_place(recheck="2m"), [("place.recheck", "60s", "2m", L)]),
    (_place(issued_within="1h"), [("place.issued_within", "", "1h", S)]),
    (_place(any_of=[{"country": "NL"}, {"country": "DE"}]), []),
    (_place(any_of=[{"country": "DE"}]), [("place.any_of", '{"country":"NL"}', "", S)]),
    (_place(any_of=[*BASE["place"]["any_of"], {"country": "SE"}]), [("place.any_of", "", '{"country":"SE"}', L)]),
    (
        _place(wrong=[{"after": "0s", "posture": "held"}]),
        [("place.wrong", "", '[{"after":"0s","posture":"held"}]', U)],
    ),
    (_policy(place=None), [("place", '{"any_of":[{"country":"DE"},{"country":"NL"}],"proof":"signed","agree":1,"recheck":"60s"}', "", L)]),
    (_policy(manage={}), [("manage.in", '{"from":"10.0.0.0/8","tcp":22}', "", S)]),
    (
        _policy(scopes=[{"name": "db", "in": [{"tcp": 5433, "from": "10.0.0.0/8"}]}]),
        [
            ("scopes[db].in", '{"from":"10.0.0.0/8","tcp":5432}', "", S),
            ("scopes[db].in", "", '{"from":"10.0.0.0/8","tcp":5433}', L),
        ],
    ),
    (_policy(trust={}), [("trust.hosts[r7]", '{"name":"r7","key":"ssh-ed25519 AAAA"}', "", S)]),
    (
        _policy(trust={"hosts": [{"name": "r7", "key": "ssh-ed25519 AAAB"}]}),
        [("trust.hosts[r7].key", "ssh-ed25519 AAAA", "ssh-ed25519 AAAB", U)],
    ),
    (
        _policy(hours={"open": [{}], "drain": "1s"}),
        [("hours", "", '{"open":[{}],"time_zone":"UTC","drain":"1s","outside":"quarantined","time":"local","recheck":"150s"}', S)],
    ),
    (
        _policy(host={"all_of": [{"fact": "host.id", "equals": "x"}]}),
        [("host", "", '{"all_of":[{"fact":"host.id","equals":"x","proof":"declared"}],"recheck":"60s"}', S)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("new", "expected"), CASES)
def test_changes(new: Policy, expected: list[tuple[str, str, str, Direction]]) -> None:
    assert [tuple(change) for change in changes(_policy(), new)] == expected


@pytest.mark.parametrize("new", [new for new, _ in CASES])
def test_the_way_back_is_the_opposite(new: Policy) -> None:
    opposite = {S: L, L: S, U: U}
    there = sorted((c.path, c.old, c.new, c.direction) for c in changes(_policy(), new))
    back = sorted((c.path, c.new, c.old, opposite[c.direction]) for c in changes(new, _policy()))
    assert there == back


def test_one_more_demand_on_the_host_is_stricter() -> None:
    one = {"fact": "host.id", "equals": "x"}
    old, new = (
        _policy(host={"all_of": [one]}),
        _policy(host={"all_of": [one, {"fact": "host.name", "equals": "y"}]}),
    )
    assert [change.direction for change in changes(old, new)] == [S]
    assert [change.direction for change in changes(new, old)] == [L]


HOURS = {
    "open": ["office", {"weekdays": ["sunday"]}],
    "intervals": [{"name": "office", "any_of": [{"weekdays": ["monday"]}]}],
    "closed_on": ["2026-12-24"],
    "services": [{"name": "backup", "out": [{"to": "10.0.0.0/8"}], "open": [{}]}],
}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({"open": ["office"]}, [("hours.open", '{"weekdays":["sunday"]}', "", S)]),
        ({"closed_on": []}, [("hours.closed_on", "2026-12-24", "", L)]),
        ({"drain": "30s"}, [("hours.drain", "0s", "30s", S)]),
        ({"outside": "guarded"}, [("hours.outside", "quarantined", "guarded", L)]),
        ({"time": "trusted"}, [("hours.time", "local", "trusted", S)]),
        ({"recheck": "5m"}, [("hours.recheck", "150s", "5m", L)]),
        ({"extra": [{"dates": ["2026-12-27"]}]}, [("hours.extra", "", '{"dates":["2026-12-27"]}', L)]),
        (
            {"holidays": [{"country": "DE", "dates": ["2026-12-25"]}]},
            [("hours.holidays", "", '{"country":"DE","dates":["2026-12-25"]}', S)],
        ),
        (
            {"services": [{"name": "backup", "out": [{"to": "10.0.0.0/8"}], "open": ["office"]}]},
            [
                ("hours.services[backup].open", "{}", "", U),
                ("hours.services[backup].open", "", "office", U),
            ],
        ),
        (
            {"intervals": [{"name": "office", "any_of": [{"weekdays": ["tuesday"]}]}]},
            [
                ("hours.intervals[office].any_of", '{"weekdays":["monday"]}', "", U),
                ("hours.intervals[office].any_of", "", '{"weekdays":["tuesday"]}', U),
            ],
        ),
    ],
)
def test_changes_of_hours(new: dict[str, object], expected: list[tuple[str, str, str, Direction]]) -> None:
    found = changes(_policy(hours=HOURS), _policy(hours={**HOURS, **new}))
    assert [tuple(change) for change in found] == expected
