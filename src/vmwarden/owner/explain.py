# SPDX-License-Identifier: Apache-2.0
"""What jsonschema finds, in the words of somebody who writes a policy."""

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from vmwarden.model import owners, policy, time_servers
from vmwarden.model.posture import Posture
from vmwarden.owner.node import Node, Path, find
from vmwarden.owner.schema import Schema


class Mistake(NamedTuple):
    """path: the value that is wrong.  at_key: it is the name of the field that is wrong, not its value.

    missing: the field at path is not there.
    """

    path: Path
    message: str
    mend: str
    at_key: bool = False
    missing: bool = False


def _pattern(kind: Any) -> str:
    meta = get_args(kind)[1]
    assert isinstance(meta, msgspec.Meta) and meta.pattern is not None
    return meta.pattern


#: what a text of that pattern is called, and how it is written
_FORMS: dict[str, tuple[str, str]] = {
    _pattern(policy.Duration): ("a duration", "write like 500ms, 60s, 10m, 24h, 7d"),
    _pattern(policy.Country): ("a country code", "write the two capital letters of ISO 3166-1, like DE"),
    _pattern(policy.Name): (
        "a name",
        "use at most 63 of a-z 0-9 . _ - and begin with a letter or a digit",
    ),
    _pattern(policy.VmPattern): (
        "a name or pattern of VMs",
        "use at most 63 of a-z 0-9 . _ - *, as enrolled; * stands for any characters",
    ),
    _pattern(policy.Instant): (
        "an instant",
        'write like "2026-11-01T00:00Z" or "2026-11-01T00:00:00+01:00"',
    ),
    _pattern(policy.Cidr): ("an address range", "write like 10.20.0.0/16 or fd00::/48"),
    _pattern(policy.SshKey): ("an SSH public key", "give the one line of a .pub file"),
    _pattern(owners.PersonKey): ("an SSH public key", "give the one line of a .pub file"),
    _pattern(get_args(policy.HostClause.__annotations__["at_least"])[0]): (
        "a version",
        'write like "8.2" or "8.2.1"',
    ),
    _pattern(get_args(policy.Holidays.__annotations__["subdivision"])[0]): (
        "a subdivision",
        "write its code of ISO 3166-2, like DE-BY",
    ),
    _pattern(time_servers.HostName): ("a host's name", "write it as its certificate has it, in lower case"),
    _pattern(time_servers.Address): ("an address", "a closed VM asks no DNS: write the address itself"),
    _pattern(time_servers.Pin): ("a pin of a key", "write sha256: and the digest of its SPKI in base64"),
    _pattern(time_servers.Authority): ("a certificate", "openssl x509 -outform DER | base64 -w0"),
    _pattern(policy.Reach.__annotations__["as_"]): ("a user of the VM", "write a user's name, like vmwarden"),
}

_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "object": "fields, one a line",
    "array": "a list",
    "boolean": "true or false",
}


def mistakes(document: object, root: Node, schema: Schema) -> Iterator[Mistake]:
    """Every place where document, which is root without its marks, does not fit schema."""
    for error in Draft202012Validator(schema).iter_errors(document):
        yield from _explain(error, root)


def _explain(error: ValidationError, root: Node) -> Iterator[Mistake]:
    path: Path = tuple(error.absolute_path)
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            yield from _unknown_fields(path, value, list(error.schema.get("properties", ())))
        case "required":
            # jsonschema reports one error for each missing field, and names it in its text only
            name = next(name for name in limit if error.message.startswith(repr(name)))
            yield Mistake((*path, name), f"{name} is missing", f"add {name}", missing=True)
        case "type":
            yield _wrong_kind(path, value, [limit] if isinstance(limit, str) else limit, root)
        case "anyOf":
            yield from _branches(error, root)
        case "enum":
            yield _not_among(path, value, limit, root)
        case "pattern":
            kind, mend = _FORMS.get(limit, ("of the right form", f"it has to match {limit}"))
            yield Mistake(path, f"{value!r} is not {kind}", mend)
        case "minimum":
            yield Mistake(path, f"{value} is too small", f"at least {limit}")
        case "maximum":
            yield Mistake(path, f"{value} is too large", f"at most {limit}")
        case "minItems" if not value:
            yield Mistake(path, "the list is empty", f"name at least {'one' if limit == 1 else limit}")
        case "minItems":
            yield Mistake(path, f"the list has {_count(len(value))}", f"name at least {limit}")
        case "maxItems":
            yield Mistake(path, f"the list has {_count(len(value))}", f"at most {limit}")
        case "minLength":
            yield Mistake(path, "the text is empty", "write something, or leave the field out")
        case "maxLength":
            yield Mistake(path, f"the text has {len(value)} characters", f"at most {limit}")
        case _:
            yield Mistake(path, error.message, "")


def _count(entries: int) -> str:
    return "one entry" if entries == 1 else f"{entries} entries"


def _unknown_fields(path: Path, value: dict[str, object], known: list[str]) -> Iterator[Mistake]:
    for name in value:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        yield Mistake((*path, name), f"unknown field {name[:80]!r}", mend, at_key=True)


def _wrong_kind(path: Path, value: object, wanted: list[str], root: Node) -> Mistake:
    names = " or ".join(_KINDS.get(kind, kind) for kind in wanted)
    if value is None:
        return Mistake(path, f"has no value, {names} is wanted", "give one, or leave the field out")
    if "string" in wanted and isinstance(value, int):
        raw = find(root, path).raw
        return Mistake(path, f"{raw} is not text", f'quote it: "{raw}"')
    if wanted == ["integer"] and isinstance(value, str):
        plain = value.strip()
        bare = f"write {plain} without quotes" if plain.isdecimal() else "write decimal digits"
        return Mistake(path, f"{value[:80]!r} is not a whole number", bare)
    mend = "begin each entry with a dash: - " if wanted == ["array"] else ""
    return Mistake(path, f"{_found(value)} where {names} is wanted", mend)


def _found(value: object) -> str:
    if isinstance(value, dict):
        return "fields"
    if isinstance(value, list):
        return "a list"
    return repr(value)[:80]


def _branches(error: ValidationError, root: Node) -> Iterator[Mistake]:
    """Of a value that may be one of several kinds, only the branch that the author meant is of interest."""
    # a reference is always to a noun, and nouns are fields
    kinds = [branch.get("type", "object") for branch in error.validator_value]
    errors: list[ValidationError] = list(error.context or ())
    for index, kind in enumerate(kinds):
        if Draft202012Validator({"type": kind}).is_valid(error.instance):
            for below in errors:
                if below.schema_path[0] == index:
                    yield from _explain(below, root)
            return
    yield _wrong_kind(tuple(error.absolute_path), error.instance, kinds, root)


def _not_among(path: Path, value: object, allowed: list[str], root: Node) -> Mistake:
    choices = ", ".join(allowed)
    if isinstance(value, str) and Posture.OPEN.value in allowed and value in [p.value for p in Posture]:
        use = "quarantined" if "unknown" in path else "quarantined or poweroff"
        return Mistake(path, f"this version cannot take the posture {value} yet", f"use {use}")
    if len(allowed) == 1:
        return Mistake(path, f"{_shown(value, path, root)} is not {choices}", f"write {choices}")
    near = difflib.get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.6)
    mend = f"did you mean {near[0]}?" if near else f"write one of {choices}"
    return Mistake(path, f"{_shown(value, path, root)} is not one of {choices}", mend)


def _shown(value: object, path: Path, root: Node) -> str:
    return find(root, path).raw[:80] or _found(value)
