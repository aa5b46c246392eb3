"""JSON read piecewise is the JSON that the standard library reads, whatever the pieces; and hostile text ends in an error."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.json_reader import JsonReader, RecordError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def reader(text, chunk_bytes=64, **limits):
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return JsonReader(io.BytesIO(data), chunk_bytes=chunk_bytes, **limits)


@given(st.lists(VALUES, max_size=5), st.integers(1, 9), st.sampled_from([None, 2]), st.booleans())
def test_items_are_what_the_standard_library_reads(values, chunk_bytes, indent, ascii_only):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    found = reader(text, chunk_bytes)
    assert [found.value() for _ in found.items()] == values
    assert found.peek() == ""


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(1, 9), st.sets(st.integers(0, 4)))
def test_what_is_not_read_is_stepped_over(values, chunk_bytes, wanted):
    document = {f"k{number}": [value] for number, value in enumerate(values)}
    found = reader(json.dumps({"before": values, **document}, ensure_ascii=False), chunk_bytes)
    kept = {key: found.value() for key in found.members() if key[:1] == "k" and int(key[1:]) in wanted}
    assert kept == {key: value for key, value in document.items() if int(key[1:]) in wanted}


@given(st.lists(VALUES, max_size=4), st.integers(1, 9))
def test_documents_behind_each_other_are_told_apart(values, chunk_bytes):
    found = reader("\n".join(json.dumps([value]) for value in values), chunk_bytes)
    assert [found.value() for _ in found.documents()] == [[value] for value in values]


def values_of(found):
    for _ in found.members():
        for _ in found.items():
            yield found.value()


@given(VALUES, st.integers(0, 400), st.integers(1, 9))
def test_text_that_is_cut_off_is_an_error(value, cut, chunk_bytes):
    text = json.dumps({"data": [value]})
    cut = 1 + cut % (len(text) - 1)
    found = reader(text[:cut], chunk_bytes)
    with pytest.raises(BadRequestError, match="it is not JSON at character"):
        list(values_of(found))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("[" * 5000 + "]" * 5000, "is nested too deeply"),
        ("9" * 5000, "holds a number with too many digits"),
        ('"' + "x" * 5000 + '"', "is larger than a record may be"),
        ("[" + "1," * 3000 + "1]", "is larger than a record may be"),
    ],
    ids=["deep", "digits", "text", "list"],
)
@pytest.mark.parametrize("chunk_bytes", [7, 1 << 16])
def test_one_record_that_cannot_be_decoded_does_not_spoil_the_next(record, reason, chunk_bytes):
    limit = 1 << 20 if "deep" in reason or "digits" in reason else 2000
    found = reader(f"[1,{record},2]", chunk_bytes, max_value_chars=limit)
    values = []
    for _ in found.items():
        try:
            values.append(found.value())
        except RecordError as error:
            values.append(str(error))
    assert values == [1, reason, 2]


def test_a_key_that_stands_twice_is_told():
    found = reader('[{"a": 1, "b": 2, "a": 3}, {"a": 1}]')
    duplicates = []
    for _ in found.items():
        found.value()
        duplicates.append(found.duplicate)
    assert duplicates == ["a", None]


@pytest.mark.parametrize(
    ("text", "values"),
    [("[1,2", [1, 2]), ("[1,2,", [1, 2]), ("[1,2,\n", [1, 2]), ("[1,2,]", [1, 2]), ("[1,2]", [1, 2])],
)
def test_a_list_without_its_end_is_read_where_that_is_allowed(text, values):
    found = reader(text, 3)
    assert [found.value() for _ in found.items(may_be_cut_off=True)] == values


def test_what_is_no_utf8_is_told():
    with pytest.raises(BadRequestError, match="it is not UTF-8"):
        reader(b'["\xff\xfe\xff"]').peek()


def test_memory_stays_bounded_however_long_the_list_is():
    text = b"[" + b",".join([b'{"a":"' + b"x" * 1000 + b'"}'] * 20_000) + b"]"
    found = JsonReader(io.BytesIO(text), chunk_bytes=4096)
    most = 0
    for _ in found.items():
        found.value()
        most = max(most, len(found._text))
    assert most < 20_000
