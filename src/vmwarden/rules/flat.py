# SPDX-License-Identifier: Apache-2.0
"""The gate's files as single commands, for a table that is there already.

A file that names its table as a block asks the kernel to give the table the flags that the block shows:
none.  A table that persists (vmwarden.linux.static_rules) has one, and the kernel refuses to take it off.
"""

import re
from collections.abc import Iterable

from vmwarden.errors import Malformed

_OPENS = re.compile(r"table (\w+) (\w+) \{")
_CHAIN = re.compile(r"\tchain (\w+) \{")
_SET = re.compile(r"\tset (\w+) (\{.*\})")


def flat(text: str, *, table: str = "", leftovers: Iterable[str] = ()) -> str:
    """The commands that fill the table of text, or exchange its rules: every chain has the rules of text, no
    others, in one transaction.  The table must be there.

    text: a file of vmwarden.rules.ruleset, with one table.  table: another name for it.
    leftovers: chains that stand and are not in text; they go.
    Raises Malformed: text is no such file.
    """
    lines = iter(text.splitlines())
    opened = next((found for line in lines if (found := _OPENS.fullmatch(line))), None)
    if opened is None:
        raise Malformed("rules of the gate: there is no table in them", mend="apply the policy again")
    at = f"{opened[1]} {table or opened[2]}"
    sets: list[str] = []
    chains: list[str] = []
    rules: list[str] = []
    for line in lines:
        if line == "}":
            head = [f"flush table {at}"]
            gone = [f"delete chain {at} {name}" for name in leftovers]
            return "\n".join((*head, *sets, *chains, *rules, *gone)) + "\n"
        if found := _SET.fullmatch(line):
            sets.append(f"add set {at} {found[1]} {found[2]}")
        elif found := _CHAIN.fullmatch(line):
            hook, named = _chain(lines, f"{at} {found[1]}", rules)
            chains.append(f"add chain {named} {hook}".rstrip())
        else:
            break
    raise Malformed("rules of the gate: they are cut off or damaged", mend="apply the policy again")


def names(text: str) -> frozenset[str]:
    """The chains that text makes."""
    return frozenset(_CHAIN.findall(text))


def _chain(lines: Iterable[str], named: str, rules: list[str]) -> tuple[str, str]:
    hook = ""
    for line in lines:
        if line == "\t}":
            break
        said = line.removeprefix("\t\t")
        if said.startswith("type "):
            hook = f"{{ {said} }}"
        else:
            rules.append(f"add rule {named} {said}")
    return hook, named
