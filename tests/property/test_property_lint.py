# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 - strategies read best whole
"""owner.lint is total: whatever an author writes, he gets places and words, never a crash."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.policy import Policy
from vmwarden.owner import lint, yaml
from vmwarden.owner.zones import TimeZones
from vmwarden.rules import canonical, sound

ZONES = TimeZones(frozenset({"Europe/Berlin", "UTC"}), {"Europe/Berlin": frozenset({"DE"})})
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEyB+GtyRt+TP4UpZsKqBcHoeDhQ2a5cV7CcYqZ6K0pI"
GOOD: dict[str, Any] = {
    "format": "vmwarden.policy/1",
    "name": "payments",
    "version": 7,
    "vms": ["payments-*", "web"],
    "valid": {"from": "2026-11-01T00:00Z", "until": "2027-11-01T00:00Z"},
    "mode": "enforce",
    "manage": {"in": [{"tcp": 22, "from": "10.20.0.0/16"}], "out": [{"tcp": 443, "to": "fd00::/48"}]},
    "reach": [{"udp": 123, "to": "10.20.0.1/32", "as": "vmwarden"}],
    "scopes": [{"name": "db", "in": [{"tcp": 5432, "from": "10.0.0.0/8"}]}],
    "gate": {"lease": "5s"},
    "place": {
        "any_of": [
            {"country": "DE", "postal_codes": ["10*"], "time_zones": ["Europe/Berlin"]},
            {"country": "NL"},
        ],
        "agree": 1,
        "wrong": [{"after": "0s", "posture": "held"}, {"after": "1m", "posture": "quarantined"}],
        "unknown": [{"after": "2m", "posture": "guarded"}],
    },
    "host": {
        "all_of": [{"fact": "host.hypervisor", "in": ["kvm"]}, {"fact": "host.compliance", "contains": "c5"}]
    },
    "trust": {"hosts": [{"name": "rack-7", "key": KEY}], "facilities": [{"zone": "a", "country": "DE"}]},
}


def _lint(data: bytes) -> lint.Report:
    return lint.lint(
        data,
        "p.yaml",
        read_beside=lambda name: b"- {zone: b, country: NL}\n",
        zones=ZONES,
        find_zone=Tzdata().zone,
    )


def _well_told(report: lint.Report) -> None:
    assert (report.policy is None) == bool(report.errors)
    for problem in (*report.errors, *report.warnings):
        assert problem.message and problem.file == "p.yaml"
        assert problem.line >= 0 and problem.column >= 0
    assert len(set(report.errors)) == len(report.errors)


yaml_like = st.text(alphabet=list("ab:-{}[],&*!|>'\"%@`#?~ \n0129NOo_.xeE\\uU<>=+é\u2028\ufeff"), max_size=80)


@settings(max_examples=400, deadline=None)
@given(st.one_of(yaml_like.map(str.encode), st.binary(max_size=80)))
def test_the_reader_is_total(data: bytes) -> None:
    root, problems = yaml.read(data, "p.yaml")
    assert root is not None or problems
    for problem in problems:
        assert problem.message and problem.line >= 1 and problem.column >= 1


@settings(max_examples=60, deadline=None)
@given(yaml_like)
def test_lint_is_total_on_text(text: str) -> None:
    _well_told(_lint(text.encode()))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70000), st.sampled_from(["", "DE", "0s", "poweroff", "sealed", "10.0.0.1/8", "*", "x" * 300, "\u0000", "..", KEY])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(st.sampled_from(["in", "tcp", "name", "wrong", "zz"]), below, max_size=3)),
    max_leaves=5,
)  # fmt: skip


def _paths(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [path, *(found for step, value in below for found in _paths(value, (*path, step)))]


PATHS = _paths(GOOD)


def _with(part: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(part) if isinstance(part, dict) else list(part)
    copy[path[0]] = _with(part[path[0]], path[1:], value)
    return copy


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), values), min_size=1, max_size=3))
def test_lint_is_total_on_policies_with_something_else_somewhere(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    """JSON is YAML: the tree is written as JSON, quotes and all."""
    document: Any = GOOD
    for path, value in changes:
        try:
            document = _with(document, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took away what this one would change
    report = _lint(msgspec.json.encode(document))
    _well_told(report)
    if report.policy is not None:
        data = canonical.encode(report.policy)
        assert canonical.decode(data, Policy, limit=1 << 20, what="policy") == report.policy
        assert sound.policy(report.policy) == ()


def test_the_policy_that_these_tests_change_is_a_good_one() -> None:
    assert _lint(msgspec.json.encode(GOOD)).errors == ()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([path for path in PATHS if path]))
def test_leaving_anything_out_is_told_or_fine(path: tuple[Any, ...]) -> None:
    around: Any = GOOD
    for step in path[:-1]:
        around = around[step]
    copy = dict(around) if isinstance(around, dict) else list(around)
    del copy[path[-1]]
    report = _lint(msgspec.json.encode(_with(GOOD, path[:-1], copy)))
    _well_told(report)
