import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import QueryCriteria
from collectors.criteria import lookup, select

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2)
documents = st.lists(st.dictionaries(st.sampled_from(["a", "b", "a.b"]), scalars, max_size=3), max_size=8)


def found(items, **criteria):
    return [item for _, item in select(enumerate(items), QueryCriteria(**criteria))]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"a": 1}, [{"a": 1, "b": {"c": 5}}]),
        ({"b.c": 5}, [{"a": 1, "b": {"c": 5}}]),
        ({"b.c": {"$gte": 5, "$lt": 7}}, [{"a": 1, "b": {"c": 5}}]),
        ({"a": {"$in": ["x", 3]}}, [{"a": "x"}]),
        ({"b": {"$in": {"x", 3}}}, []),
        ({"a": {"$exists": False}}, [{"b.c": 7}]),
        ({"b.c": 7}, [{"b.c": 7}]),
        ({"a": {"$gt": 0}}, [{"a": 1, "b": {"c": 5}}]),
        ({"a": {"$ne": 1}}, [{"a": "x"}, {"b.c": 7}]),
        ({"a": {"plain": "object"}}, []),
    ],
)
def test_filters(filters, expected):
    items = [{"a": 1, "b": {"c": 5}}, {"a": "x"}, {"b.c": 7}]
    assert found(items, filters=filters) == expected


@pytest.mark.parametrize("filters", [{"a": {"$near": 1}}, {"a": {"$in": 5}}])
def test_senseless_filters_are_refused(filters):
    with pytest.raises(ValueError, match="filter 'a'"):
        found([], filters=filters)


@given(
    documents,
    st.sampled_from([None, "a", "-a", "a.b"]),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 9),
)
def test_a_page_is_a_part_of_the_whole(items, sort_by, limit, offset):
    whole = found(items, sort_by=sort_by)
    first = offset or 0
    last = None if limit is None else first + limit
    assert found(items, sort_by=sort_by, limit=limit, offset=offset) == whole[first:last]
    assert sorted(map(repr, whole)) == sorted(map(repr, items))


def test_sorting_is_stable_and_orders_all_types():
    items = [{"a": "x"}, {"a": 2}, {"a": True}, {"b": 1}, {"a": None}, {"a": 1.5}]
    assert found(items, sort_by="a") == [{"b": 1}, {"a": None}, {"a": True}, {"a": 1.5}, {"a": 2}, {"a": "x"}]


def test_location_is_found_as_the_backend_names_it():
    records = [(7, {"a": 1}), (8, {"a": 2})]
    criteria = QueryCriteria(filters={"location_id": "readings/8"})
    assert select(records, criteria, location=lambda key: f"readings/{key}") == [(8, {"a": 2})]


def test_lookup_in_what_is_no_object():
    assert lookup({"a": 5}, "a.b") is lookup({}, "x")
