"""The manifest: what was written is read again, and what is none is said to be none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dumpfiles.paths import read_manifest
from tasks.dumpformat.manifest import FORMAT, Outline, TableRows, manifest_from_json
from tasks.errors import BadInputError
from tests.sample_manifest import MANIFEST


def changed(**keys: Any) -> bytes:
    """Write the manifest with some keys of the document changed; `...` takes one away."""
    document = {**json.loads(MANIFEST.to_json()), **keys}
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def test_a_manifest_comes_back_as_it_was_written() -> None:
    """All that it says survives the file."""
    assert manifest_from_json(MANIFEST.to_json()) == MANIFEST
    assert MANIFEST.rows == 20


def test_a_manifest_is_for_people_too() -> None:
    """ASCII, indented, one line's end at its end; the format first."""
    text = MANIFEST.to_json().decode("ascii")

    assert text.startswith('{\n "format": 1,\n "created": "2025-12-21T10:30:45.123Z",')
    assert text.endswith("\n}\n")


def test_tables_of_an_earlier_manifest_are_read_as_pairs() -> None:
    """Earlier versions wrote them without quotes; up to the first dot it is the schema."""
    found = manifest_from_json(changed(excluded_data=["public.log", "App.two words", "public.a.b", 'public."x']))

    assert found.excluded_data == (("public", "log"), ("App", "two words"), ("public", "a.b"), ("public", '"x'))


_text = st.text(st.characters(), max_size=10)
# No name of PostgreSQL's holds a zero, and bytes that are no UTF-8 are read as surrogates from U+DC80 on.
_name = st.binary(max_size=10).map(lambda raw: raw.replace(b"\0", b"0").decode("utf-8", "surrogateescape"))


@given(
    note=_text,
    tables=st.lists(st.builds(TableRows, _name, _name, st.integers(0, 1 << 62)), max_size=4).map(tuple),
    excluded=st.lists(st.tuples(_name.filter(bool), _name.filter(bool)), max_size=3).map(tuple),
    roles=st.lists(_name, max_size=3).map(tuple),
    extra=st.dictionaries(_text.map(lambda key: "x" + key), st.integers() | _text | st.none(), max_size=3),
)
def test_any_manifest_comes_back(
    note: str,
    tables: tuple[TableRows, ...],
    excluded: tuple[tuple[str, str], ...],
    roles: tuple[str, ...],
    extra: dict[str, object],
) -> None:
    """Odd names, surrogates among them, and keys that we don't know."""
    outline = Outline(roles=roles)
    manifest = replace(MANIFEST, note=note, tables=tables, excluded_data=excluded, outline=outline, extra=extra)

    assert manifest_from_json(manifest.to_json()) == manifest


def test_names_that_are_no_unicode_survive() -> None:
    """Bytes of a SQL_ASCII database's names stand in Python as surrogates, and come back."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    manifest = replace(MANIFEST, tables=(TableRows(name, name, 1),))

    again = manifest_from_json(manifest.to_json())

    assert again.tables[0].name.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_keys_that_we_do_not_know_are_kept() -> None:
    """A manifest of a later version of the same format keeps what it says when we write it again."""
    text = changed(checksums={"public.User": 42}, facts={"new": [1]}, outline={"schemas": ["a"], "new": 1})

    manifest = manifest_from_json(text)

    assert manifest.extra == {"checksums": {"public.User": 42}}
    assert manifest.facts == {"new": [1]}
    assert manifest.outline == Outline(schemas=("a",))
    assert manifest_from_json(manifest.to_json()) == manifest


def test_a_manifest_without_facts_is_whole() -> None:
    """Facts came later."""
    assert manifest_from_json(changed(facts=...)).facts == {}


REFUSED: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "cut": (MANIFEST.to_json()[:-10], None),
    "not JSON": (b"\x1f\x8b\x08", None),
    "another encoding": ("{}".encode("utf-16"), None),
    "a list": (b"[]", None),
    "a number": (b"1", None),
    "no format": (b"{}", None),
    "deep": (b"[" * 100_000, None),
    "format of another kind": (changed(format="1"), None),
    "newer format": (changed(format=FORMAT + 1), None),
    "no file": (changed(file=...), "file"),
    "file without its sum": (changed(file={"name": "x", "bytes": 1, "compression": "none"}), "sha256"),
    "no content": (changed(content=None), None),
    "no tables": (changed(tables=...), "tables"),
    "table without rows": (changed(tables=[{"schema": "a", "name": "b"}]), "rows"),
    "rows of another kind": (changed(tables=[{"schema": "a", "name": "b", "rows": None}]), None),
    "rows without end": (changed(tables=[{"schema": "a", "name": "b", "rows": float("inf")}]), None),
    "a table that is none": (changed(tables=["a"]), None),
    "sequence without a value": (changed(sequences=[{"schema": "a", "name": "b", "is_called": True}]), "value"),
    "outline of another kind": (changed(outline=[]), None),
    "source of another kind": (changed(source=None), None),
    "unknown compression": (
        changed(file={"name": "x", "bytes": 1, "sha256": "x", "compression": "lz4"}),
        "lz4",
    ),
    "git of another kind": (changed(git={"commit": 1, "dirty": True}), "git"),
    "git without a commit": (changed(git={}), "git"),
    "names of another kind": (changed(outline={"schemas": [1]}), "outline.schemas"),
    "one name for several": (changed(outline={"schemas": "public"}), "outline.schemas"),
    "count of another kind": (changed(outline={"relations": "3"}), "outline.relations"),
    "count beyond all": (changed(outline={"relations": 10**30}), "outline.relations"),
    "truth for a count": (changed(outline={"large_objects": True}), "outline.large_objects"),
    "zero in a name": (changed(outline={"extensions": ["a\0b"]}), "outline.extensions"),
    "left out of another kind": (changed(excluded_data=[{}]), "excluded_data"),
    "objects of another kind": (changed(facts={"objects": {"table": ["a"]}}), "facts.objects"),
    "definition of another kind": (changed(facts={"definitions": {"table": {"a": {"facts": 1}}}}), "facts.definitions"),
    "digest of another kind": (changed(facts={"objects": {"table": {"a": ["x"]}}}), "facts.objects"),
    "checksum of another kind": (changed(facts={"checksums": [["a", "b"]]}), "facts.checksums"),
    "owners of another kind": (changed(facts={"told": {"owner": [1]}}), "facts.told"),
    "host of another kind": (changed(source={"host": ["a"]}), "source.host"),
    "seconds without end": (changed(seconds=float("inf")), "seconds"),
    "a number of very many digits": (b'{"format": ' + b"9" * 5000 + b"}", None),
    "size of another kind": (changed(content={"bytes": "many", "sha256": "x"}), None),
}


@pytest.mark.parametrize(("text", "key"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_manifest_is_an_error(tmp_path: Path, text: bytes, key: str | None) -> None:
    """Cut, foreign, newer or misspelled: an error, which for a person is a sentence that names the file."""
    (tmp_path / "a.manifest.json").write_bytes(text)

    with pytest.raises(ValueError, match=key):
        manifest_from_json(text)
    with pytest.raises(BadInputError, match=r"a\.manifest\.json"):
        read_manifest(tmp_path / "a.sql")


@pytest.mark.parametrize("name", ["a.sql", "a.sql.gz", "a.sql.zst"])
def test_the_manifest_is_found_beside_its_dump(tmp_path: Path, name: str) -> None:
    """By the dump's stem, whether it is compressed or not; a dump may have none."""
    assert read_manifest(tmp_path / name) is None

    (tmp_path / "a.manifest.json").write_bytes(MANIFEST.to_json())

    assert read_manifest(tmp_path / name) == MANIFEST


def test_a_manifest_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    """A folder of that name, or a file far too large, is refused before it is read."""
    (tmp_path / "a.manifest.json").mkdir()
    with (tmp_path / "b.manifest.json").open("wb") as file:
        file.truncate(1 << 40)

    for name in ("a.sql", "b.sql"):
        with pytest.raises(BadInputError, match=r"\.manifest\.json"):
            read_manifest(tmp_path / name)
