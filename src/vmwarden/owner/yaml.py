# SPDX-License-Identifier: Apache-2.0
"""YAML, as much of it as a policy needs: what every reader of YAML 1.1 and 1.2 understands alike.

Refused, each with its place: anchors, aliases, tags, directives, several documents, tabs, duplicate keys,
and plain scalars that readers disagree on (NO, off, 0123, 18:00, 1_000, 8.2, 2026-12-25).
"""

import re
from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from vmwarden.errors import BugError, Problem
from vmwarden.owner.node import Entry, Mark, Node, Path, Scalar
from vmwarden.rules.sound import dotted

#: bound on one file, bytes: a hand-written policy is below 10 kB, a table of 1000 facilities below 150 kB
FILE_BYTES = 256 * 1024
#: bound on nesting: a policy has 6 levels
DEPTH = 16

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
#: plain scalars that YAML 1.1 (http://yaml.org/type/) or YAML 1.2 (section 10.3) takes for something other
#: than the text they show, and that are not the same to both
_DISPUTED = (
    (re.compile(r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF"), "a truth value"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "a number to the base of 60"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*:.*:.*)?"), "a date"),
    (re.compile(r"[-+]?0b[01_]+|[-+]?0o?[0-9_]+|[-+]?0x[0-9a-fA-F_]+"), "a number of another base"),
    (re.compile(r"[-+]?[0-9][0-9_]*"), "a number"),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"), "a fraction"),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "a fraction"),
    (re.compile(r"="), "something special"),
)
_NUMERIC = re.compile(r"[-+]?[0-9][0-9_]*")


class _Stop(Exception):
    """Reading cannot go on; the reason is among the problems."""


def read(data: bytes, file: str) -> tuple[Node | None, tuple[Problem, ...]]:
    """The document in data, or None if it cannot be read to its end; and every mistake on the way.

    file: the name for messages.  Never raises, for any bytes.
    """
    if len(data) > FILE_BYTES:
        return None, (Problem(f"{len(data)} bytes, at most {FILE_BYTES} are read", file=file),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        return None, (Problem("not UTF-8", "save the file as UTF-8", file, line, column),)
    problems = [*_unwanted_characters(text, file)]
    if problems:
        return None, tuple(problems)
    reader = _Reader(file)
    return reader.document(text), tuple(reader.problems)


def _unwanted_characters(text: str, file: str) -> Iterator[Problem]:
    for number, line in enumerate(text.split("\n"), start=1):
        if "\t" in line:
            yield Problem("a tab", "use spaces", file, number, line.index("\t") + 1)
        if line.startswith("%"):
            yield Problem("a YAML directive", "leave it out; the file is YAML 1.2", file, number, 1)
        for column, character in enumerate(line.removesuffix("\r"), start=1):
            # ruamel.yaml counts NEL, LS and PS as line ends and editors do not; the others hide what is read.
            if character != "\t" and not character.isprintable():
                yield Problem(f"the character U+{ord(character):04X}", "leave it out", file, number, column)


class _Reader:
    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._events: Iterator[Event] = iter(())

    def document(self, text: str) -> Node | None:
        try:
            self._events = YAML(typ="safe", pure=True).parse(text)
            root = self._root()
        except _Stop:
            return None
        except MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark
            said = ", ".join(part for part in (error.context, error.problem) if part)
            self._say_at(said or "not YAML", "", at.line if at else 0, at.column if at else 0, ())
            return None
        except ReaderError as error:
            self._say_at(f"not YAML: {error.reason}", "", 0, 0, ())
            return None
        except (YAMLError, ValueError, OverflowError) as error:
            # ruamel.yaml lets ValueError and OverflowError of chr() out for escapes like "\UFFFFFFFF".
            self._say_at(f"not YAML: {error}", "", 0, 0, ())
            return None
        return root

    def _root(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._say(event, (), "a second document", "write one policy in one file")
                    return None
            elif isinstance(event, StreamEndEvent):
                break
            elif isinstance(event, NodeEvent):
                root = self._node(event, ())
        if documents == 0 or root is None or (root.value is None and not root.raw):
            self._say_at("the file is empty", "start with `vmwarden init`, or from the examples", 0, 0, ())
            return None
        return root

    def _node(self, event: Event, path: Path) -> Node:
        if len(path) > DEPTH:
            self._say(event, path, f"nested deeper than {DEPTH} levels", "")
            raise _Stop
        if isinstance(event, AliasEvent):
            self._say(event, path, f"an alias (*{event.anchor})", "write the value out")
            return Node(None, self._mark(event), raw="*")
        if isinstance(event, ScalarEvent):
            self._no_decoration(event, path)
            return self._scalar(event, path)
        if not isinstance(event, CollectionStartEvent):
            raise BugError(f"ruamel.yaml sends {type(event).__name__} where a value begins")
        self._no_decoration(event, path)
        if isinstance(event, MappingStartEvent):
            return self._mapping(event, path)
        return self._sequence(event, path)

    def _no_decoration(self, event: ScalarEvent | CollectionStartEvent, path: Path) -> None:
        if event.anchor is not None:
            self._say(event, path, f"an anchor (&{event.anchor})", "leave it out, write values out")
        if event.tag is not None:
            self._say(event, path, f"a tag ({event.tag})", "leave it out")

    def _sequence(self, start: Event, path: Path) -> Node:
        items: list[Node] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._node(event, (*path, len(items))))
        return Node(tuple(items), self._mark(start))

    def _mapping(self, start: Event, path: Path) -> Node:
        fields: dict[str, Entry] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, ScalarEvent):
                self._say(event, path, "a name of a field has to be text", "")
                self._node(event, path)
                self._node(next(self._events), path)
                continue
            self._no_decoration(event, path)
            name = event.value
            below = (*path, name)
            node = self._node(next(self._events), below)
            if node.value is None and not node.raw:
                node = Node(None, self._mark(event))  # nothing stands there: the name shows the place
            if name in fields:
                self._say(event, below, f"{name!r} is there twice", "keep one of them")
            else:
                fields[name] = Entry(self._mark(event), node)
        return Node(fields, self._mark(start))

    def _scalar(self, event: ScalarEvent, path: Path) -> Node:
        text: str = event.value
        value: Scalar = text
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self._say(event, path, "half a character (a lone surrogate)", "write the character itself")
            value = ""
        elif event.style is None:
            value = self._plain(event, text, path)
        return Node(value, self._mark(event), raw=text)

    def _plain(self, event: Event, text: str, path: Path) -> Scalar:
        if _INTEGER.fullmatch(text):
            return int(text)
        if text in _TRUTH:
            return _TRUTH[text]
        if _NULL.fullmatch(text):
            return None
        for form, what in _DISPUTED:
            if form.fullmatch(text):
                mend = f'quote it: "{text}"'
                if _NUMERIC.fullmatch(text):
                    mend += ", or write a number in plain decimal digits"
                self._say(event, path, f"some readers of YAML take {text} for {what}", mend)
                break
        return text

    def _mark(self, event: Event) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _say(self, event: Event, path: Path, message: str, mend: str) -> None:
        self._say_at(message, mend, event.start_mark.line, event.start_mark.column, path)

    def _say_at(self, message: str, mend: str, line: int, column: int, path: Path) -> None:
        self.problems.append(Problem(message, mend, self._file, line + 1, column + 1, dotted(path)))
