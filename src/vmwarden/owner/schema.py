# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a policy file, derived from model.policy.Policy.

It differs from the signed form in what an author may write: trust.facilities may name a file, the dates of
holidays are not his to write, only facts and postures that this version knows are offered, and a field that
is left out is left out, not null.
"""

from typing import Any

import msgspec

from vmwarden.model.policy import FORMAT, Policy
from vmwarden.model.posture import BUILT, Posture
from vmwarden.rules.sound import FACTS

#: JSON Schema's dialect that msgspec writes
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def policy_schema() -> Schema:
    """Of a whole policy file; editors read it through `# yaml-language-server: $schema=`."""
    return {"$schema": DIALECT, "title": FORMAT, **_authored(msgspec.json.schema(Policy))}


def facilities_schema() -> Schema:
    """Of a file of facilities: the list alone."""
    definitions = policy_schema()["$defs"]
    rows = next(branch for branch in _facilities(definitions)["anyOf"] if branch["type"] == "array")
    return {"$schema": DIALECT, "title": "facilities", "$defs": definitions, **rows}


def schema_of(noun: object) -> Schema:
    """Of any other noun that an author writes: a field that is left out is left out, not null."""
    schema = _walk(msgspec.json.schema(noun))
    assert isinstance(schema, dict)
    return {"$schema": DIALECT, **schema}


def _authored(schema: Schema) -> Schema:
    authored = _walk(schema)
    assert isinstance(authored, dict)
    rows = _facilities(authored["$defs"])
    file_name = {"type": "string", "description": "a file beside the policy that holds the list"}
    form = {name: rows.pop(name) for name in ("type", "items")}
    rows["anyOf"] = [form, file_name]
    authored["$defs"]["HostClause"]["properties"]["fact"] = {"enum": list(FACTS)}
    del authored["$defs"]["Holidays"]["properties"]["dates"]
    return authored


def _facilities(definitions: Schema) -> Schema:
    rows = definitions["Trust"]["properties"]["facilities"]
    assert isinstance(rows, dict)
    return rows


def _walk(part: object) -> object:
    if isinstance(part, list | tuple):
        return [_walk(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("enum") == sorted(posture.value for posture in Posture):
        return {**part, "enum": [posture.value for posture in BUILT]}
    branches = [branch for branch in part.get("anyOf", ()) if branch != {"type": "null"}]
    if "anyOf" in part and len(branches) < len(part["anyOf"]):
        rest = {name: value for name, value in part.items() if name not in ("anyOf", "default")}
        if len(branches) == 1:
            return _walk({**rest, **branches[0]})
        return _walk({**rest, "anyOf": branches})
    walked = {name: _walk(value) for name, value in part.items() if name != "required" or value}
    if isinstance(part.get("description"), str):
        walked["description"] = " ".join(part["description"].split())
    return walked
