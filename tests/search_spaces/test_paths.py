import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import PathError, nest, unnest

SEGMENTS = st.sampled_from(["a", "b", "lr", "_x", "T2"])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=3).map(".".join)


def clash(names):
    return any(long.startswith(f"{short}.") for short in names for long in names)


@given(st.dictionaries(NAMES, st.integers() | st.none() | st.lists(st.integers())))
def test_unnest_inverts_nest_and_clashes_are_refused(flat):
    if clash(flat):
        with pytest.raises(PathError, match="clashes with"):
            nest(flat)
    else:
        assert unnest(nest(flat)) == flat


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "1a", "a-b", "a.1", "é", "a\n", 3, None])
def test_what_is_no_dotted_identifier_is_no_name(name):
    with pytest.raises(PathError, match="identifiers joined by dots"):
        nest({name: 1})
    with pytest.raises(PathError, match="identifiers joined by dots"):
        unnest({name: 1})


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({"a": {"b": 1}, "a.b": 2}, "a.b: is given twice, once nested and once dotted; keep one"),
        ({"a": 1, "a.b": 2}, "a.b: clashes with 'a', which holds a value"),
        ({"a": {}}, "a: is an empty group"),
        ({"a": {"b.c": {}}}, "a.b.c: is an empty group"),
    ],
)
def test_unnest_refuses_what_has_two_readings(nested, message):
    with pytest.raises(PathError) as caught:
        unnest(nested)
    assert str(caught.value).startswith(message)


def test_dotted_and_nested_keys_may_be_mixed():
    assert unnest({"a": {"b.c": 1}, "a.b.d": 2}) == {"a.b.c": 1, "a.b.d": 2}
