"""Where each key of a TOML text stands."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.config.places import line_of, lines_of

TEXT = '''\
top = 1
"quoted key" = 'a # b'

[device]  # [not.this]
id = "a\\"]b"

[[source]]
id = "x"
list = [
    1,
    { a = 1, b.c = [2, 3] },  # , }
]
codec.type = "csv"

[[source]]
text = """
[no]
x = 1
"""
more = \'\'\'
[[source]]\'\'\'\'\'
last = 1979-05-27 07:32:00

[source.codec]
type = "json"

[[source.codec.layout]]
prefix = "p"
[[source.codec.layout]]
fields = [{ name = "n" }]
'''


def test_every_kind_of_key_is_placed():
    places = lines_of(TEXT)
    expected = {
        ("top",): 1,
        ("quoted key",): 2,
        ("device",): 4,
        ("device", "id"): 5,
        ("source", 0): 7,
        ("source", 0, "list", 0): 10,
        ("source", 0, "list", 1, "b", "c", 1): 11,
        ("source", 0, "codec", "type"): 13,
        ("source", 1): 15,
        ("source", 1, "more"): 20,
        ("source", 1, "last"): 22,
        ("source", 1, "codec", "type"): 25,
        ("source", 1, "codec", "layout", 1): 29,
        ("source", 1, "codec", "layout", 1, "fields", 0, "name"): 30,
    }
    assert {path: places[path] for path in expected} == expected
    assert set(places) == set(paths_of(tomllib.loads(TEXT)))


def test_a_key_that_is_missing_is_placed_at_its_table():
    places = lines_of(TEXT)
    assert line_of(places, ("source", 1, "port")) == 15
    assert line_of(places, ("device", "id", "deeper")) == 5
    assert line_of(places, ("nothing",)) is None


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    own = [path] if path else []
    return own + [each for key, item in items for each in paths_of(item, (*path, key))]


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4) | st.sampled_from(
    ["a", "b-c", "1"]
)
scalars = st.integers(-9, 9) | st.booleans() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def text_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {text_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"{text_of(item)}, # ]\n" for item in value) + "]"
    return quoted(value) if isinstance(value, str) else str(value).lower()


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" if c in '"\\' or not c.isprintable() else c for c in text) + '"'


entries = st.dictionaries(names, values, max_size=3)
documents = st.dictionaries(names, entries | st.lists(entries, min_size=1, max_size=3), max_size=4)


@given(documents)
def test_all_that_toml_reads_is_placed_on_the_line_of_its_key(document):
    lines = []
    for name, tables in document.items():
        heading = f"[[{quoted(name)}]]" if isinstance(tables, list) else f"[{quoted(name)}]"
        for table in tables if isinstance(tables, list) else [tables]:
            lines += [heading, *(f"{quoted(key)} = {text_of(value)}" for key, value in table.items())]
    text = "\n".join(lines) + "\n"
    assert tomllib.loads(text) == document
    found = lines_of(text)
    assert set(found) == set(paths_of(document))
    rows = text.split("\n")
    assert all(
        quoted(path[-1]) in rows[line - 1] for path, line in found.items() if isinstance(path[-1], str)
    )
