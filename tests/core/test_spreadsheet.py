"""CSV that a spreadsheet shows and does not obey."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.spreadsheet import as_csv

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


@pytest.mark.parametrize("cell", ["gpt-6-luna", "a=b", "'=1", "", " ", "🦆", 'say "hi", twice', "two\nlines"])
def test_any_other_text_stays_as_it_is(cell):
    assert read(as_csv(["a", "b"], [{"a": cell, "b": 1}]))[1] == [cell, "1"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\x00", codec="utf-8")), min_size=2))
def test_no_cell_begins_like_a_formula(cells):
    columns = [str(number) for number in range(len(cells))]

    found = read(as_csv(columns, [dict(zip(columns, cells, strict=True))]))[1]

    assert [cell.removeprefix("'") for cell in found] == [cell.removeprefix("'") for cell in cells]
    assert not any(cell.startswith(FORMULAS) for cell in found)
