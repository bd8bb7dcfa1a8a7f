import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import YamlError, dump_yaml, load_yaml

PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
        st.sampled_from(
            ["1e-3", "no", "on", "y", "~", "null", "010", "0x1f", "1_000", "1:30", "2024-01-01", "<<", "="]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abno~<=. ", max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(PLAIN)
def test_what_is_dumped_is_loaded_back_with_its_types(document):
    loaded = load_yaml(dump_yaml(document))
    assert repr(loaded) == repr(document)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-.5", -0.5),
        ("3.", 3.0),
        (".inf", math.inf),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("+7", 7),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ("=", "="),
        ("e-3", "e-3"),
        (".", "."),
    ],
)
def test_scalar_is_read_as_yaml_1_2_says(text, value):
    loaded = load_yaml(text)
    assert (type(loaded), loaded) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "duplicate key 'a'; keep one"),
        ("a: {b: 1, b: 2}", 1, 11, "duplicate key 'b'; keep one"),
        ("a: &x [1]\nb: *x", 2, 4, "aliases are not supported; repeat the value"),
        ("1: a", 1, 1, "a key must be text, got 1; quote it"),
        ("true: a", 1, 1, "a key must be text, got True; quote it"),
        ("[a]: b", 1, 1, "a key must be text, got ['a']; quote it"),
        ("a: !!python/object:os.system x", 1, 4, "tags are not supported, got"),
        ("a: !!str 1", 1, 4, "tags are not supported, got 'tag:yaml.org,2002:str'; write the plain value"),
        ("a: 1e999", 1, 4, "too large for a float"),
        ("a: " + "9" * 5000, 1, 4, "too large for an int: 9999"),
        ("a: [1, 2", 1, 9, "expected ',' or ']'"),
        ("a: b: c", 1, 5, "mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", 2, 1, "but found another document"),
        ("a:\n\t- b", 2, 1, "cannot start any token"),
        ("a: 1\nb: \x00", 2, 4, "the character '\\x00' is not allowed"),
        ("[" * 60 + "]" * 60, 1, 51, "must be nested at most 50 levels deep"),
    ],
)
def test_mistake_is_named_with_its_line_and_column(text, line, column, message):
    with pytest.raises(YamlError) as caught:
        load_yaml(text, source="sweep.yaml")
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"sweep.yaml:{line}:{column}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_document_beyond_the_size_limit_is_refused():
    with pytest.raises(YamlError, match="at most 1000000 characters"):
        load_yaml("#" * 1_000_001)


def test_billion_laughs_is_refused_at_its_first_alias():
    lines = ["a0: &a0 [ha]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
    with pytest.raises(YamlError, match="aliases are not supported"):
        load_yaml("\n".join(lines))
