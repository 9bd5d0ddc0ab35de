"""CSV that a spreadsheet shows and does not obey."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.spreadsheet import as_csv, as_list, cells_of, list_of, rows_of

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_numbers_stay_numbers_and_nothing_is_an_empty_cell():
    assert as_csv(["a", "b", "c"], [{"a": 1, "b": -2.5, "c": None}]) == "a,b,c\r\n1,-2.5,\r\n"


def test_only_the_named_columns_are_in_it_in_their_order():
    assert read(as_csv(["b", "a"], [{"a": "1", "b": "2", "c": "3"}])) == [["b", "a"], ["2", "1"]]


@pytest.mark.parametrize("begin", FORMULAS)
def test_a_formula_is_text(begin):
    cell = f'{begin}HYPERLINK("http://evil";"click")'

    assert read(as_csv(["a"], [{"a": cell}]))[1] == [f"'{cell}"]


@pytest.mark.parametrize("cell", ["gpt-6-luna", "a=b", "'a", "'", "", " ", "🦆", 'say "hi", twice', "two\nlines"])
def test_any_other_text_stays_as_it_is(cell):
    assert read(as_csv(["a", "b"], [{"a": cell, "b": 1}]))[1] == [cell, "1"]


@pytest.mark.parametrize("cell", ["'=1", "''-", "'\t"])
def test_a_text_like_a_harmless_formula_has_one_more_quote(cell):
    assert read(as_csv(["a"], [{"a": cell}]))[1] == [f"'{cell}"]


ANY = st.text(st.characters(codec="utf-8"))
QUOTED = st.builds("{}{}{}".format, st.text("'", max_size=3), st.sampled_from(["", *FORMULAS]), ANY)


@given(st.lists(ANY | QUOTED, min_size=2))
def test_no_cell_begins_like_a_formula_and_each_is_read_as_it_was(cells):
    columns = [str(number) for number in range(len(cells))]

    row = rows_of(columns, [dict(zip(columns, cells, strict=True))])

    assert not any(cell.startswith(FORMULAS) for cell in read(row)[0])
    assert cells_of(row) == cells


@pytest.mark.parametrize("row", ['"a', '"a"b', "a\rb", "a\nb"])
def test_what_is_no_row_is_refused(row):
    with pytest.raises(ValueError, match="RFC 4180"):
        cells_of(row)


def test_a_cell_may_be_long():
    assert cells_of(f'a,"{"b" * 10**6}"\r\n') == ["a", "b" * 10**6]


def test_a_list_in_a_cell_is_read_as_people_write_it():
    assert as_list(["a", "b c", "-d"]) == "a, b c, -d"
    assert as_list(["x, y", 'say "hi"', " z"]) == '"x, y", "say ""hi""", " z"'
    assert list_of("a,b ,  c") == ["a", "b ", "c"]


@given(st.lists(ANY | st.text(' ,"\r\n\t=', max_size=5)))
def test_a_list_in_a_cell_is_read_as_it_was(texts):
    (cell, _) = cells_of(rows_of(["a", "b"], [{"a": as_list(texts), "b": ""}]))

    assert list_of(cell) == texts
