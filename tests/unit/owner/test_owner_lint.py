# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 - the tables are read one case a line
"""owner.lint: each mistake of a policy is told at its place, with its path and its mend.

In the tables the mark ¦ stands, in the policy itself, before the place that the message has to point at.
"""

import pytest

from vmwarden.errors import FileAbsent, Malformed, Problem
from vmwarden.linux.tzdata import Tzdata
from vmwarden.owner import lint, yaml
from vmwarden.owner.zones import TimeZones

ZONES = TimeZones(
    frozenset({"Europe/Berlin", "Europe/Amsterdam", "Asia/Kolkata", "UTC"}),
    {"Europe/Berlin": frozenset({"DE", "DK"}), "Asia/Kolkata": frozenset({"IN"})},
)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEyB+GtyRt+TP4UpZsKqBcHoeDhQ2a5cV7CcYqZ6K0pI"
ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIGgv6Uf2kzpgBwlxmNg+yQgn3TbMo8C"
    "m9MZPaLnfDCfK4D6hEsEBL8LNzaG6lwX7bDSNAKZ8Wkq6SMEyZRrfhc="
)
HEAD = """format: vmwarden.policy/1
name: payments
version: 7
vms: ["payments-*"]
valid: {from: "2026-11-01T00:00Z", until: "2027-11-01T00:00Z"}
mode: observe
"""
TRUST = f"trust:\n  hosts: [{{name: rack-7, key: {KEY}}}]\n"
PLACE = "place:\n  any_of: [{country: DE}]\n"


def _lint(text: str, files: dict[str, bytes] | None = None) -> lint.Report:
    def read_beside(name: str) -> bytes:
        if name == "secret":
            raise Malformed("leads out of the policy's folder")
        if files is None or name not in files:
            raise FileAbsent(f"{name}: no such file")
        return files[name]

    return lint.lint(
        text.encode(), "dir/p.yaml", read_beside=read_beside, zones=ZONES, find_zone=Tzdata().zone
    )


def _mark(text: str) -> tuple[str, int, int]:
    """The text without its mark, and where that stood."""
    before, after = text.split("¦")
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def _only(problems: tuple[Problem, ...]) -> Problem:
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]


def test_a_good_policy_has_nothing_to_say() -> None:
    report = _lint(HEAD + PLACE + TRUST)
    assert report.errors == () and report.warnings == ()
    assert report.policy is not None
    assert report.policy.place is not None
    assert report.policy.place.any_of[0].country == "DE"


SCHEMA_MISTAKES = [
    # unknown and missing fields
    (HEAD + "¦modus: x\n", "modus", "unknown field 'modus'", "did you mean mode?"),
    (HEAD + "¦xyzzy: x\n", "xyzzy", "unknown field 'xyzzy'", "known here: format, name, version, vms"),
    (HEAD + "manage: {¦inn: []}\n", "manage.inn", "unknown field 'inn'", "did you mean in?"),
    (HEAD + "place: ¦{proof: signed}\n", "place.any_of", "any_of is missing", "add any_of"),
    ("¦" + HEAD.replace("name: payments\n", ""), "name", "name is missing", "add name"),
    # wrong kinds
    (HEAD.replace("version: 7", 'version: ¦"7"'), "version", "not a whole number", "write 7 without quotes"),
    (HEAD.replace("version: 7", "version: ¦seven"), "version", "not a whole number", "decimal digits"),
    (HEAD.replace("version: 7", "version: ¦true"), "version", "True where a whole number", ""),
    (HEAD.replace("version: 7", "¦version:"), "version", "has no value", "give one"),
    (HEAD.replace("version: 7", "version: ¦0"), "version", "too small", "at least 1"),
    (HEAD.replace("version: 7", "version: ¦9007199254740993"), "version", "too large", "at most"),
    (HEAD.replace("name: payments", "name: ¦12"), "name", "12 is not text", 'quote it: "12"'),
    (HEAD.replace('["payments-*"]', "¦payments"), "vms", "'payments' where a list", "dash"),
    (HEAD.replace('["payments-*"]', "¦[]"), "vms", "the list is empty", "at least one"),
    (HEAD.replace('["payments-*"]', '["¦Pay ments"]').replace('"¦', '¦"'), "vms.0", "not a name or pattern", "a-z"),
    (HEAD.replace("mode: observe", "mode: ¦enforced"), "mode", "enforce, observe", "did you mean enforce?"),
    (HEAD.replace("mode: observe", "mode: ¦watch"), "mode", "enforce, observe", "write one of enforce, observe"),
    (HEAD.replace("vmwarden.policy/1", "¦vmwarden.policy/2"), "format", "policy/2 is not", "write vmwarden.policy/1"),
    (HEAD.replace('"2026-11-01T00:00Z"', "¦tomorrow"), "valid.from", "not an instant", "2026-11-01T00:00Z"),
    (HEAD + "gate: {lease: ¦5 seconds}\n", "gate.lease", "not a duration", "60s, 10m"),
    (HEAD + TRUST + "place:\n  any_of: [{country: ¦de}]\n", "place.any_of.0.country", "not a country code", "DE"),
    (HEAD + "reach: [{udp: 1, to: 10.0.0.1/32, as: ¦Root User}]\n", "reach.0.as", "not a user", "like vmwarden"),
    (HEAD + "manage: {in: [{tcp: ¦65536, from: 10.0.0.0/8}]}\n", "manage.in.0.tcp", "too large", "at most 65535"),
    (HEAD + "manage: {in: [{tcp: 22, from: ¦office}]}\n", "manage.in.0.from", "not an address range", "10.20.0.0/16"),
    (HEAD + "host: {all_of: [{fact: ¦host.hypervisr, in: [kvm]}]}\n", "host.all_of.0.fact", "host.hypervisr", "did you mean host.hypervisor?"),
    (HEAD + "host: {all_of: [{fact: host.compliance, contains: ¦7}]}\n", "host.all_of.0.contains", "7 is not text", "quote it"),
    (HEAD + "host: {all_of: [{fact: host.compliance, contains: [a, ¦7]}]}\n", "host.all_of.0.contains.1", "7 is not text", "quote it"),
    (HEAD + "host: {all_of: [{fact: host.compliance, contains: ¦{}}]}\n", "host.all_of.0.contains", "fields where text or a list", ""),
    (HEAD + "trust: {facilities: ¦7}\n", "trust.facilities", "where a list or text|7 is not text", ""),
    (HEAD + "trust: {hosts: [{name: a, key: ¦AAAA}]}\n", "trust.hosts.0.key", "not an SSH public key", ".pub"),
    (HEAD + "trust: {hosts: [{name: ¦'', key: " + KEY + "}]}\n", "trust.hosts.0.name", "empty", "write something"),
    (HEAD + TRUST + "place:\n  any_of: [{postal_codes: [¦10115]}]\n", "place.any_of.0.postal_codes.0", "10115 is not text", 'quote it: "10115"'),
    # postures that are not built
    (HEAD + PLACE + "  wrong: [{after: 1s, posture: ¦sealed}]\n" + TRUST, "place.wrong.0.posture", "this version cannot take the posture sealed yet", "use quarantined or poweroff"),
    (HEAD + PLACE + "  unknown: [{after: 1s, posture: ¦erased}]\n" + TRUST, "place.unknown.0.posture", "this version cannot take the posture erased yet", "use quarantined"),
    (HEAD + PLACE + "  wrong: [{after: 1s, posture: ¦closed}]\n" + TRUST, "place.wrong.0.posture", "not one of open, guarded", "write one of"),
]  # fmt: skip

YAML_MISTAKES = [
    (HEAD + TRUST + "place:\n  any_of: [{country: ¦NO}]\n", "place.any_of.0.country", "NO for a truth value", 'quote it: "NO"'),
    (HEAD.replace("name: payments", "name: ¦off"), "name", "off for a truth value", 'quote it: "off"'),
    (HEAD.replace("name: payments", "name: ¦08:00"), "name", "base of 60", 'quote it: "08:00"'),
    (HEAD.replace("name: payments", "name: ¦18:00:00"), "name", "base of 60", 'quote it: "18:00:00"'),
    (HEAD.replace("version: 7", "version: ¦0123"), "version", "another base", "plain decimal digits"),
    (HEAD.replace("version: 7", "version: ¦0x7"), "version", "another base", 'quote it: "0x7"'),
    (HEAD.replace("version: 7", "version: ¦1_000"), "version", "a number", "plain decimal digits"),
    (HEAD.replace("version: 7", "version: ¦+7"), "version", "a number", "plain decimal digits"),
    (HEAD.replace("version: 7", "version: ¦" + "9" * 5000), "version", "a number", "plain decimal digits"),
    (HEAD.replace("name: payments", "name: ¦8.2"), "name", "a fraction", 'quote it: "8.2"'),
    (HEAD.replace("name: payments", "name: ¦.inf"), "name", "a fraction", 'quote it: ".inf"'),
    (HEAD.replace("name: payments", "name: ¦2026-12-25"), "name", "a date", 'quote it: "2026-12-25"'),
    (HEAD.replace('"2026-11-01T00:00Z"', "¦2026-11-01T00:00:00Z"), "valid.from", "a date", "quote it"),
    (HEAD + "¦name: again\n", "name", "'name' is there twice", "keep one"),
    (HEAD.replace("name: payments", "name: ¦&a payments"), "name", "an anchor (&a)", "leave it out"),
    (HEAD.replace("name: payments", "name: ¦!!str payments"), "name", "a tag (tag:yaml.org,2002:str)", "leave it out"),
    (HEAD + "manage: ¦!x {}\n", "manage", "a tag (!x)", "leave it out"),
    ("¦%YAML 1.1\n---\n" + HEAD, "", "a YAML directive", "leave it out"),
    (HEAD + "¦---\n" + HEAD, "", "a second document", "one policy in one file"),
    (HEAD + "manage: {}¦\t# none\n", "", "a tab", "use spaces"),
    (HEAD + "manage: ¦\u2028{}\n", "", "U+2028", "leave it out"),
    (HEAD + "manage: [\n¦", "", "expected the node content", ""),
    (HEAD + "? ¦[a]\n: b\n", "", "a name of a field has to be text", ""),
    ("¦", "", "the file is empty", "examples"),
    ("¦# nothing but a comment\n", "", "the file is empty", "examples"),
    ("¦- a\n- b\n", "", "a list where fields", ""),
    ("a: " + "[" * 16 + "¦[]" + "]" * 16, "a" + ".0" * 16, "nested deeper than 16", ""),
    ("a: " + "[" * 16 + "¦[" + "[" * 200_000, "a" + ".0" * 16, "nested deeper than 16", ""),
]  # fmt: skip

MEANINGS = [
    (HEAD.replace('until: "2027', 'until: ¦"2026').replace("2026-11-01T00:00Z\"}", "2026-10-01T00:00Z\"}"), "valid.until", "ends before it begins", "later than from"),
    (HEAD.replace('"2027-11-01T00:00Z"', '¦"2027-02-30T00:00Z"'), "valid.until", "2027-02-30", "write like"),
    (HEAD + "manage: {in: [¦{from: 10.0.0.0/8}]}\n", "manage.in.0", "names no port", "tcp: PORT"),
    (HEAD + "manage: {in: [{udp: ¦22, from: 10.0.0.0/8}]}\n", "manage.in.0.udp", "manage is TCP only", "scope"),
    (HEAD + "scopes: [{name: a, in: [¦{tcp: 1, udp: 1, from: 10.0.0.0/8}]}]\n", "scopes.0.in.0", "tcp and udp", "two entries"),
    (HEAD + "manage: {in: [{tcp: 22, from: ¦10.20.0.1/16}]}\n", "manage.in.0.from", "bits set beyond", "write 10.20.0.0/16"),
    (HEAD + "manage: {in: [{tcp: 22, from: ¦10.20.0.0/33}]}\n", "manage.in.0.from", "no address range", "10.20.0.0/16"),
    (HEAD + "manage: {in: [{tcp: 22, from: ¦10.0.0.0/7}]}\n", "manage.in.0.from", "too broad|bits set", ""),
    (HEAD + "manage: {in: [{tcp: 22, from: ¦0.0.0.0/0}]}\n", "manage.in.0.from", "too broad", "at most a /8"),
    (HEAD + "manage: {out: [{tcp: 22, to: ¦2000::/16}]}\n", "manage.out.0.to", "too broad", "at most a /32"),
    (HEAD + "reach: [{udp: 123, to: ¦10.0.0.0/31, as: vmwarden}]\n", "reach.0.to", "more than one address", "like 10.0.0.0/32"),
    (HEAD + "reach: [{udp: 123, to: ¦fd00::/127, as: vmwarden}]\n", "reach.0.to", "more than one address", "like fd00::/128"),
    (HEAD + "reach: [¦{to: 10.0.0.1/32, as: vmwarden}]\n", "reach.0", "names no port", "tcp: PORT"),
    (HEAD + "scopes: [¦{name: a}]\n", "scopes.0", "names no flow", "in or out"),
    (HEAD + "scopes:\n- {name: a, in: [{tcp: 1, from: 0.0.0.0/0}]}\n- {name: ¦a, in: [{tcp: 1, from: 0.0.0.0/0}]}\n", "scopes.1.name", "'a' is there twice", "unique"),
    (HEAD + "gate: {lease: ¦500ms}\n", "gate.lease", "not within 1s to 30s", "5s"),
    (HEAD + "gate: {lease: ¦31s}\n", "gate.lease", "not within 1s to 30s", "5s"),
    (HEAD + TRUST + "place:\n  any_of: [¦{}]\n", "place.any_of.0", "empty entry", "name a country"),
    (HEAD + TRUST + "place:\n  any_of: [{country: ¦UK}]\n", "place.any_of.0.country", "UK is no country", "write GB"),
    (HEAD + TRUST + "place:\n  any_of: [{country: ¦XX}]\n", "place.any_of.0.country", "XX is no country", "ISO 3166-1"),
    (HEAD + TRUST + 'place:\n  any_of: [{postal_codes: [¦"1*1"]}]\n', "place.any_of.0.postal_codes.0", "only one * is understood, at the end", "10*"),
    (HEAD + TRUST + 'place:\n  any_of: [{postal_codes: [¦"*"]}]\n', "place.any_of.0.postal_codes.0", "says nothing", "10*"),
    (HEAD + TRUST + 'place:\n  any_of: [{country: DE, postal_codes: [¦"1011"]}]\n', "place.any_of.0.postal_codes.0", "of DE", "look it up"),
    (HEAD + TRUST + 'place:\n  any_of: [{time_zones: [¦europe/berln]}]\n', "place.any_of.0.time_zones.0", "no time zone", "did you mean Europe/Berlin?"),
    (HEAD + TRUST + 'place:\n  any_of: [{time_zones: [¦CEST]}]\n', "place.any_of.0.time_zones.0", "no time zone", "like Europe/Berlin"),
    (HEAD + "place: ¦{any_of: [{country: DE}]}\n", "place.proof", "this VM can never satisfy it", "proof: declared"),
    (HEAD + PLACE + "  proof: ¦fresh\n", "place.proof", "this VM can never satisfy it", "trust.hosts"),
    (HEAD + PLACE + "  agree: ¦2\n" + TRUST, "place.agree", "2 different keys wanted, trust.hosts has 1", "lower agree"),
    (HEAD + PLACE + "  recheck: ¦999ms\n" + TRUST, "place.recheck", "below 1s", "60s"),
    (HEAD + PLACE + "  issued_within: ¦0s\n  proof: fresh\n" + TRUST, "place.issued_within", "0 old", "24h"),
    (HEAD + PLACE + "  wrong: ¦[]\n" + TRUST, "place.wrong", "an empty ladder", "default"),
    (HEAD + PLACE + "  wrong: [{after: 0s, posture: held}, {after: ¦0m, posture: quarantined}]\n" + TRUST, "place.wrong.1.after", "0m does not come after 0s", "grow"),
    (HEAD + PLACE + "  wrong: [{after: 0s, posture: quarantined}, {after: 1m, posture: ¦held}]\n" + TRUST, "place.wrong.1.posture", "milder than quarantined", "stricter"),
    (HEAD + PLACE + "  wrong: [{after: 0s, posture: ¦open}]\n" + TRUST, "place.wrong.0.posture", "cannot open", "guarded"),
    (HEAD + PLACE + "  wrong: [{after: 0s, posture: held, ask: ¦relocate}]\n" + TRUST, "place.wrong.0.ask", "ask without of", "add of"),
    (HEAD + PLACE + "  unknown: [{after: 0s, posture: ¦poweroff}]\n" + TRUST, "place.unknown.0.posture", "never follows from silence", "guarded or held"),
    (HEAD + "host:\n  all_of: [¦{fact: host.hypervisor}]\n", "host.all_of.0", "has none of equals", "exactly one"),
    (HEAD + "host:\n  all_of: [¦{fact: host.hypervisor, equals: kvm, in: [kvm]}]\n", "host.all_of.0", "equals and in", "exactly one"),
    (HEAD + "host:\n  all_of: [{fact: host.compliance, equals: ¦c5}]\n", "host.all_of.0.equals", "list of labels", "contains"),
    (HEAD + "host:\n  all_of: [{fact: host.hypervisor, contains: ¦kvm}]\n", "host.all_of.0.contains", "one value", "equals or in"),
    (HEAD + "host:\n  all_of: [{fact: host.compliance, contains: ¦[]}]\n", "host.all_of.0.contains", "names no label", "at least one"),
    (HEAD + "host:\n  all_of: [{fact: host.hypervisor, in: [kvm], proof: ¦signed}]\n", "host.all_of.0.proof", "can never satisfy", "trust.hosts"),
    (HEAD + f"trust: {{hosts: [{{name: a, key: {KEY}}}, {{name: b, key: ¦{KEY} b}}]}}\n", "trust.hosts.1.key", "is the key of a too", "one key"),
    (HEAD + f"trust: {{hosts: [{{name: a, key: ¦{ECDSA}}}]}}\n", "trust.hosts.0.key", "", ""),
    (HEAD + "trust: {hosts: [{name: a, key: ¦ssh-ed25519 AAAA}]}\n", "trust.hosts.0.key", "cut off", ""),
    (HEAD + "trust: {facilities: [¦{country: DE}]}\n", "trust.facilities.0", "names no region", "what the row"),
    (HEAD + "trust: {facilities: [¦{zone: a}]}\n", "trust.facilities.0", "implies nothing", "add country"),
    (HEAD + "trust: {facilities: [{zone: a, country: DE}, ¦{zone: a, country: NL}]}\n", "trust.facilities.1", "same region", "keep one"),
    (HEAD + 'trust: {facilities: [{zone: a, country: DE, postal_code: ¦"10*"}]}\n', "trust.facilities.0.postal_code", "not a pattern", "write the code"),
    (HEAD + 'trust: {facilities: [{zone: a, country: DE, postal_code: ¦"1"}]}\n', "trust.facilities.0.postal_code", "of DE", "look it up"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message", "mend"), [*SCHEMA_MISTAKES, *YAML_MISTAKES, *MEANINGS])
def test_each_mistake_is_told_once_at_its_place(text: str, path: str, message: str, mend: str) -> None:
    plain, line, column = _mark(text)
    report = _lint(plain)
    problem = _only(report.errors)
    assert (problem.file, problem.line, problem.column) == ("dir/p.yaml", line, column), str(problem)
    assert problem.path == path
    assert any(part in problem.message for part in message.split("|")), str(problem)
    assert mend in problem.mend, str(problem)
    assert report.policy is None


WARNINGS = [
    (HEAD.replace("mode: observe", "mode: ¦enforce") + PLACE + TRUST, "mode", "enforce without manage.in"),
    (HEAD.replace("mode: observe", "mode: ¦enforce") + "manage: {in: [{tcp: 22, from: 10.0.0.0/8}]}\n", "mode", "nothing is judged"),
    (HEAD + PLACE + "  proof: ¦declared\n", "place.proof", "is believed"),
    (HEAD + PLACE + "  issued_within: ¦24h\n" + TRUST, "place.issued_within", "24h of running"),
    (HEAD + PLACE + "  wrong: [{after: 0s, posture: ¦poweroff}]\n" + TRUST, "place.wrong.0.posture", "terminates the VM"),
    (HEAD + "host:\n  all_of: [{fact: host.hypervisor, in: [kvm]}]\n  wrong: [{after: 0s, posture: ¦poweroff}]\n", "host.wrong.0.posture", "terminates the VM"),
    (HEAD + PLACE + "  wrong: [{after: 0s, posture: held, ask: ¦stay, of: owner}]\n" + TRUST, "place.wrong.0.ask", "sends it to nobody"),
    (HEAD + PLACE + "  wrong: [¦{after: 10s, posture: guarded}]\n" + TRUST, "place.wrong.0", "until 10s"),
    (HEAD + "place:\n  any_of: [{country: NL, time_zones: [¦Europe/Berlin]}]\n" + TRUST, "place.any_of.0.time_zones.0", "not a time zone of NL (tzdata: DE, DK)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message"), WARNINGS)
def test_what_is_allowed_and_unwise_is_a_warning(text: str, path: str, message: str) -> None:
    plain, line, column = _mark(text)
    report = _lint(plain)
    assert report.errors == () and report.policy is not None
    problem = _only(report.warnings)
    assert (problem.line, problem.column, problem.path) == (line, column, path)
    assert message in problem.message


def test_nothing_is_said_of_what_cannot_be_known() -> None:
    """A zone that tzdata does not place, and a zone beside no country."""
    text = (
        HEAD + "place:\n  any_of: [{country: NL, time_zones: [UTC]}, {time_zones: [Asia/Kolkata]}]\n" + TRUST
    )
    assert _lint(text)[1:] == ((), ())


def test_all_mistakes_are_told_at_once_and_none_twice() -> None:
    text = (
        HEAD.replace("version: 7", "version: seven").replace("observe", "enforced")
        + "manage: {in: [{tcp: 99999, from: 10.0.0.1/8}, {udp: 53, from: 10.0.0.0/8}]}\n"
        + "place:\n  any_of: [{country: NO, contry: SE}, {country: ZZ}]\n  agree: 3\n"
        + "  wrong: [{after: 0s, posture: sealed}, {after: 10s, posture: held}, {after: 5s, posture: held}]\n"
        + "trust: {hosts: [{name: a, key: nonsense}]}\n"
    )
    report = _lint(text)
    assert [problem.path for problem in report.errors] == [
        "version",
        "mode",
        "manage.in.0.tcp",
        "manage.in.0.from",
        "manage.in.1.udp",
        "place.any_of.0.country",
        "place.any_of.0.contry",
        "place.any_of.1.country",
        "place.wrong.0.posture",
        "place.wrong.2.after",
        "trust.hosts.0.key",
    ]


def test_what_rests_on_a_broken_part_is_not_said() -> None:
    """Three keys are wanted, and whether there are three cannot be known while one cannot be read."""
    hosts = f"trust: {{hosts: [{{name: a, key: {KEY}}}, {{name: b, key: broken}}]}}\n"
    report = _lint(HEAD + PLACE + "  agree: 3\n" + hosts)
    assert [problem.path for problem in report.errors] == ["trust.hosts.1.key"]
    report = _lint(
        HEAD.replace("observe", "enforce") + PLACE + TRUST + "manage: {in: [{tcp: x, from: 1.2.3.4/32}]}\n"
    )
    assert [problem.path for problem in report.errors] == ["manage.in.0.tcp"]
    assert report.warnings == ()


INCLUDE = HEAD + "trust: {facilities: ¦tables/f.yaml}\n"


def test_the_table_of_facilities_comes_in() -> None:
    table = b"- {region: eu-1, country: DE}\n- {zone: a, time_zone: Europe/Berlin}\n"
    report = _lint(INCLUDE.replace("¦", ""), {"tables/f.yaml": table})
    assert report.errors == () and report.policy is not None
    assert [row.country for row in report.policy.trust.facilities] == ["DE", None]


@pytest.mark.parametrize(
    ("table", "line", "column", "path", "message"),
    [
        (b"- {region: eu-1, country: DE}\n- {region: x, contry: NL}\n", 2, 15, "trust.facilities.1.contry", "unknown field"),
        (b"- {region: eu-1, country: NO}\n", 1, 27, "trust.facilities.0.country", "truth value"),
        (b"- {region: eu-1, country: ZZ}\n", 1, 27, "trust.facilities.0.country", "no country"),
        (b"- {region: eu-1, postal_code: 10115}\n", 1, 31, "trust.facilities.0.postal_code", "is not text"),
        (b"region: eu-1\n", 1, 1, "", "not a list"),
        (b"- [\n", 2, 1, "", ""),
        (b"\xff", 1, 1, "", "not UTF-8"),
        (b"- a\n" * 100_000, 0, 0, "", "bytes"),
    ],
)  # fmt: skip
def test_mistakes_of_the_table_carry_its_own_name_and_lines(
    table: bytes, line: int, column: int, path: str, message: str
) -> None:
    problem = _only(_lint(INCLUDE.replace("¦", ""), {"tables/f.yaml": table}).errors)
    assert (problem.file, problem.line, problem.column) == ("dir/tables/f.yaml", line, column)
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/passwd", "not beside the policy"),
        ("../f.yaml", "not beside the policy"),
        ("a/../../f.yaml", "not beside the policy"),
        ("''", "not beside the policy"),
        ("secret", "leads out of the policy's folder"),
        ("absent.yaml", "no such file"),
    ],
)
def test_a_table_that_is_not_beside_the_policy_is_not_read(name: str, message: str) -> None:
    plain, line, column = _mark(INCLUDE.replace("tables/f.yaml", name))
    problem = _only(_lint(plain).errors)
    assert (problem.file, problem.line, problem.column) == ("dir/p.yaml", line, column)
    assert problem.path == "trust.facilities"
    assert message in problem.message


def test_mistakes_elsewhere_are_told_also_when_the_table_is_missing() -> None:
    report = _lint(INCLUDE.replace("¦", "").replace("version: 7", "version: 0") + "gate: {lease: 1m}\n")
    assert [problem.path for problem in report.errors] == ["version", "trust.facilities", "gate.lease"]


def test_a_file_beyond_the_bound_is_not_read() -> None:
    problem = _only(_lint(HEAD + "#" * yaml.FILE_BYTES).errors)
    assert "at most 262144 are read" in problem.message


def test_a_byte_that_is_no_utf8_is_found() -> None:
    report = lint.lint(
        b"name: caf\xe9\n", "p.yaml", read_beside=lambda name: b"", zones=ZONES, find_zone=Tzdata().zone
    )
    problem = _only(report.errors)
    assert (problem.line, problem.column, problem.message) == (1, 10, "not UTF-8")


def test_quoted_text_stays_text() -> None:
    text = HEAD.replace("name: payments", 'name: "off"').replace("version: 7", "version: 7 # seven")
    report = _lint(text + 'place: {proof: declared, any_of: [{country: "NO", postal_codes: ["0123"]}]}\n')
    assert report.errors == () and report.policy is not None
    assert report.policy.name == "off"
    assert report.policy.place is not None
    assert report.policy.place.any_of[0].country == "NO"
