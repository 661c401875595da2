# SPDX-License-Identifier: Apache-2.0
"""rules.sound: what a VM refuses although it has the right form.

The rules that an author sees are in tests/unit/owner/test_owner_lint.py, at their lines.  Here is what only a
policy signed by hand can contain, because lint's schema stops it before.
"""

from typing import Any

import msgspec
import pytest

from vmwarden.model.policy import Policy
from vmwarden.rules import sound

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEyB+GtyRt+TP4UpZsKqBcHoeDhQ2a5cV7CcYqZ6K0pI"
BASE: dict[str, Any] = {
    "format": "vmwarden.policy/1",
    "name": "payments",
    "version": 7,
    "vms": ["a"],
    "valid": {"from": "2026-11-01T00:00Z", "until": "2027-11-01T00:00Z"},
    "mode": "observe",
    "trust": {"hosts": [{"name": "r7", "key": KEY}]},
}


def _found(**changed: Any) -> list[tuple[str, str]]:
    policy = msgspec.convert({**BASE, **changed}, Policy)
    return [(sound.dotted(problem.path), problem.message) for problem in sound.policy(policy)]


def _place(**changed: Any) -> dict[str, Any]:
    return {"any_of": [{"country": "DE"}], **changed}


def test_a_sound_policy() -> None:
    assert _found() == []
    assert _found(place=_place()) == []


@pytest.mark.parametrize("posture", ["sealed", "erased"])
@pytest.mark.parametrize("ladder", ["wrong", "unknown"])
def test_postures_that_this_version_cannot_take(posture: str, ladder: str) -> None:
    found = _found(place=_place(**{ladder: [{"after": "0s", "posture": posture}]}))
    message = f"this version cannot take the posture {posture} yet"
    assert found == [(f"place.{ladder}.0.posture", message)]


def test_facts_that_there_are_not() -> None:
    for fact in ("host.statement", "host.colour", "HOST.ID"):
        [(path, message)] = _found(host={"all_of": [{"fact": fact, "equals": "x"}]})
        assert path == "host.all_of.0.fact"
        assert fact in message


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"vms": ["a\n"]}, "vms.0"),
        ({"name": "payments\n"}, "name"),
        ({"reach": [{"udp": 1, "to": "10.0.0.1/32", "as": "root\n"}]}, "reach.0.as"),
        ({"place": _place(any_of=[{"cities": ["Berl\u202ein"]}])}, "place.any_of.0.cities.0"),
        ({"trust": {"hosts": [{"name": "\x1b[2J", "key": KEY}]}}, "trust.hosts.0.name"),
    ],
)
def test_no_control_character_gets_through(changed: dict[str, Any], path: str) -> None:
    """A pattern that ends in $ lets one line feed pass; rulesets and terminals must not see it."""
    assert path in [found for found, _ in _found(**changed)]


def test_declared_claims_cannot_agree() -> None:
    assert [path for path, _ in _found(place=_place(proof="declared", agree=2), trust={})] == ["place.agree"]


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.0.0.0/8", True),
        ("10.0.0.0/7", False),
        ("8.0.0.0/7", False),
        ("fd00::/32", True),
        ("fd00::/31", False),
        ("10.1.0.0/8", False),
        ("1.2.3.4/32", True),
        ("1.2.3/24", False),
        ("fd00::1/64", False),
        ("2001:0DB8::/32", True),
        ("10.0.0.0/08", True),
    ],
)
def test_ranges_of_manage(address: str, good: bool) -> None:
    assert (_found(manage={"in": [{"tcp": 22, "from": address}]}) == []) is good


def test_scopes_may_be_open_to_all() -> None:
    assert _found(scopes=[{"name": "web", "in": [{"tcp": 443, "from": "0.0.0.0/0"}]}]) == []
