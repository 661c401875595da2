# SPDX-License-Identifier: Apache-2.0
"""What the host's administrator declares of the host, and what the host says of itself."""

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from vmwarden.errors import Malformed, SourceUnavailable, TooLarge, UsageError
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Country, Text
from vmwarden.model.statement import Label
from vmwarden.model.wire import Wire
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim, instant
from vmwarden.sources.time_zone import TimeZone

#: a facts file is below 2 kB
FACTS_BYTES = 65536
#: names this use of the machine id, so that nobody can match it with another program's (machine-id(5))
_PURPOSE = b"vmwarden.host-id/1"
_MACHINE_ID = re.compile(rb"[0-9a-f]{32}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class HostFacts(Wire, frozen=True, kw_only=True):
    """Facts of one host; names and forms are those of HostStatement.

    compliance: label to the day (2027-01-01) or instant at which it lapses.
    """

    host_id: Text | None = None
    host_name: Text | None = None
    country: Country | None = None
    subdivision: Text | None = None
    city: Text | None = None
    postal_code: Text | None = None
    time_zone: Text | None = None
    building: Text | None = None
    hypervisor: Text | None = None
    hypervisor_version: Text | None = None
    compliance: Annotated[dict[Text, str], Meta(max_length=32)] = msgspec.field(default_factory=dict)

    def labels(self) -> tuple[Label, ...]:
        """Raises Malformed for what is no date."""
        return tuple(
            Label(name=name, until=until_s(until)) for name, until in sorted(self.compliance.items())
        )


def until_s(text: str) -> int:
    """Seconds since 1970 of 2027-01-01 (its first moment, UTC) or of an instant.  Raises Malformed."""
    if _DATE.fullmatch(text):
        try:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise Malformed(f"{text!r} is not a date: {error}") from error
    return instant.milliseconds(text) // 1000


def read(data: bytes, file: str) -> HostFacts:
    """The facts in a JSON file, or in a YAML file by its name.  Raises TooLarge, Malformed, UsageError."""
    if len(data) > FACTS_BYTES:
        raise TooLarge(f"{file}: {len(data)} bytes, at most {FACTS_BYTES} are read")
    try:
        if file.endswith((".yaml", ".yml")):
            facts = msgspec.convert(_yaml(data, file), HostFacts)
        else:
            facts = msgspec.json.decode(data, type=HostFacts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        mend = "quote it" if "Expected `str" in str(error) else ""
        raise Malformed(f"{file}: {error}", mend=mend) from error
    facts.labels()
    return facts


def of_this_host(tree: Tree, host_name: str, now: Moment) -> HostFacts:
    """What needs no declaration: an id made from the machine id, the name, the time zone it is set to."""
    return HostFacts(
        host_id=_host_id(tree),
        host_name=claim.shorten(host_name) or None,
        time_zone=next((str(e.value) for e in TimeZone().read(tree, now) if e.value is not None), None),
    )


def merge(first: HostFacts, *others: HostFacts) -> HostFacts:
    """Each field from the first that has it; labels of all, the first's date where two name the same."""
    fields: dict[str, Any] = {}
    for name in HostFacts.__struct_fields__:
        given = [getattr(facts, name) for facts in (first, *others)]
        if name == "compliance":
            fields[name] = {label: until for each in reversed(given) for label, until in each.items()}
        else:
            fields[name] = next((value for value in given if value is not None), None)
    return HostFacts(**fields)


def _host_id(tree: Tree) -> str | None:
    try:
        machine_id = tree.read("/etc/machine-id", 256).strip()
    except SourceUnavailable:
        return None
    if not _MACHINE_ID.fullmatch(machine_id):
        return None
    return hmac.new(machine_id, _PURPOSE, hashlib.sha256).hexdigest()[:32]


def _yaml(data: bytes, file: str) -> object:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ImportError as error:
        raise UsageError(f"{file}: reading YAML needs the package ruamel.yaml; write JSON") from error
    try:
        return YAML(typ="safe", pure=True).load(data)
    except (YAMLError, ValueError) as error:
        raise Malformed(f"{file}: {error}") from error
