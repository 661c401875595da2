# SPDX-License-Identifier: Apache-2.0
"""What ports.source promises, for every source of the catalog."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.linux.recording import RecordingTree
from vmwarden.linux.tree import FileTree
from vmwarden.model.evidence import Evidence, Proof
from vmwarden.model.message import MESSAGE_BYTES, Declared
from vmwarden.model.statement import STATEMENT_BYTES
from vmwarden.ports.source import Source
from vmwarden.rules import canonical
from vmwarden.rules.claim import VALUE_CHARACTERS
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.tree import FakeTree
from vmwarden.watcher.catalog import IDENTIFYING, ROOT_ONLY, SOURCES

NOW = FakeClock().now()
DATA = Path(__file__).parents[1] / "data" / "sources"
#: where the maintainers keep answers of real platforms; nobody else needs it
SHARED = Path(os.environ.get("VMWARDEN_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


def asked() -> tuple[str, ...]:
    """Every path that the sources read, found by letting them look at each sample."""
    paths: set[str] = set()
    for source in SOURCES:
        for live in (True, False):
            tree = FakeTree({"/sys/class/virtio-ports/vport0p1/name": b"x"}, live=live)
            source.read(tree, NOW)
            source.statements(tree)
            paths |= set(tree.reads)
    return tuple(sorted(paths))


PATHS = asked()


def keeps_its_promises(source: Source, tree: FakeTree | FileTree) -> tuple[Evidence, ...]:
    evidence = source.read(tree, NOW)
    tokens = source.statements(tree)
    assert evidence
    for piece in evidence:
        assert piece.source == source.name
        assert piece.id.startswith(f"{source.name}/{piece.subject}")
        assert piece.proof is Proof.DECLARED
        assert piece.signer == ""
        assert (piece.value is None) == (piece.unavailable != "")
        for text in (piece.value, piece.unavailable):
            if isinstance(text, str):
                assert len(text) <= VALUE_CHARACTERS
                assert text.isprintable()
        assert (piece.observed_at_ms, piece.observed_boot_ms) == (NOW.utc_ms, NOW.boot_ms)
    assert len({piece.id for piece in evidence}) == len(evidence)
    assert all(len(token) <= STATEMENT_BYTES and token.isascii() for token in tokens)
    message = canonical.encode(Declared(turn=1, source=source.name, evidence=evidence))
    assert canonical.decode(message, Declared, limit=MESSAGE_BYTES, what="message").evidence == evidence
    return evidence


def test_names_are_unique_and_every_sample_has_its_source() -> None:
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert {source.name for source in SOURCES} == {path.name for path in DATA.iterdir()}


@every_source
def test_an_empty_machine_and_a_denied_one_are_told(source: Source) -> None:
    for tree in (FakeTree(), FakeTree(live=False), FakeTree(denied=PATHS)):
        for piece in keeps_its_promises(source, tree):
            assert piece.unavailable or source.name == "clock"
        assert source.statements(tree) == ()


@every_source
def test_a_live_signal_is_unavailable_in_a_recording(source: Source) -> None:
    with FileTree(DATA / source.name / "root", live=False) as tree:
        evidence = keeps_its_promises(source, tree)
    assert all(bool(piece.unavailable) == source.live_only for piece in evidence)


@every_source
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_total_on_arbitrary_bytes(source: Source, data: st.DataObject) -> None:
    content = st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
        st.binary(max_size=40).map(lambda some: b"vmwarden.statement=" + some),
        st.binary(max_size=40).map(lambda some: b"\x0b\x05\0\0\x01vmwarden.statement.1of2=" + some),
        st.just(b"x" * 300_000),
    )
    files = data.draw(st.dictionaries(st.sampled_from(PATHS), content, max_size=len(PATHS)))
    links = data.draw(st.dictionaries(st.just("/etc/localtime"), st.text(max_size=300), max_size=1))
    keeps_its_promises(source, FakeTree(files, links=links))


@every_source
def test_nothing_outside_the_root_is_read(source: Source, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"vmwarden.statement=outside QEMU 4711")
    root = tmp_path / "root"
    for path in PATHS:
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to("../" * (path.count("/") + 1) + "secret" if len(path) % 2 else tmp_path / "secret")
    with FileTree(root, live=False) as tree:
        evidence = keeps_its_promises(source, tree)
        tokens = source.statements(tree)
    assert not any("outside" in str(piece.value) or "4711" in str(piece.value) for piece in evidence)
    assert tokens == ()


@every_source
@pytest.mark.timeout(10)
def test_pipes_folders_and_endless_files_in_every_place(source: Source, tmp_path: Path) -> None:
    def endless(place: Path) -> None:
        with place.open("wb") as file:
            file.truncate(1 << 40)

    makers: tuple[Callable[[Path], None], ...] = (os.mkfifo, Path.mkdir, endless)
    for n, make in enumerate(makers):
        root = tmp_path / str(n)
        for path in PATHS:
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            make(place)
        with FileTree(root, live=False) as tree:
            assert all(p.unavailable for p in keeps_its_promises(source, tree) if source.name != "platform")


@every_source
def test_a_recording_gives_the_same_answers(source: Source, tmp_path: Path) -> None:
    with FileTree(DATA / source.name / "root", live=False) as original:
        recording = RecordingTree(original, tmp_path / "copy")
        before = (source.read(recording, NOW), source.statements(recording))
    with FileTree(tmp_path / "copy", live=False) as copy:
        assert (source.read(copy, NOW), source.statements(copy)) == before


def test_what_only_root_may_read_is_among_what_is_read() -> None:
    read = set(PATHS) | {f"/sys/firmware/dmi/entries/11-{n}/raw" for n in range(4)}
    assert set(ROOT_ONLY) <= read
    assert set(IDENTIFYING) <= read


@every_source
def test_answers_of_real_platforms_in_every_place(source: Source) -> None:
    if not SHARED.is_dir():
        pytest.skip("no shared data here; VMWARDEN_SHARED names it")
    for sample in sorted(SHARED.rglob("*")):
        if sample.is_file():
            content = sample.read_bytes()
            keeps_its_promises(source, FakeTree(dict.fromkeys(PATHS, content)))
