"""Blocks that are put together to records: wherever they are cut, the records are the same."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.services.framing import LONGEST, Records

ROWS = b'a,b\r\n"x\r\ny","z ""quoted"""\r\n\r\n1, 2 \n"\n\n",\n3,4'


def framed(content: bytes, size: int = 2**20) -> list[tuple[int, bytes | None]]:
    records, found = Records(), []
    for start in range(0, len(content), size):
        found += records.feed(content[start : start + size])
    return [*found, *records.end()]


def test_lines_of_json_are_counted_and_what_is_around_them_is_not_theirs():
    assert framed(b'\xef\xbb\xbf{"a": 1} \r\n\n {"b": "\n"') == [(1, b'{"a": 1}'), (3, b'{"b": "'), (4, b'"')]


def test_a_row_has_the_number_of_the_line_that_it_begins_in():
    assert framed(ROWS) == [
        (1, b"a,b\r"),
        (2, b'"x\r\ny","z ""quoted"""\r'),
        (5, b"1, 2 "),
        (6, b'"\n\n",'),
        (9, b"3,4"),
    ]


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_blocks_may_be_cut_anywhere(size, mark):
    assert framed(mark + ROWS, size) == framed(ROWS)


@given(st.lists(st.lists(st.text('a",\r\n ="\u2028'), min_size=2, max_size=2)), st.integers(1, 20))
def test_any_rows_that_are_written_are_framed_as_they_were(rows, size):
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b"], *rows])

    found = framed(text.getvalue().encode(), size)

    read = [next(csv.reader([record.decode()], strict=True)) for _, record in found]
    assert read[1:] == rows


@pytest.mark.parametrize("line", [b"{", b'a,"\n'])
def test_what_is_too_long_is_dropped_and_the_next_is_taken(line):
    content = b"%sa\n%s%s%s\nnext\n" % (line[:1], line, b"x" * LONGEST, line[2:3])

    assert framed(content)[1:] == [(2, None), (4 if b"\n" in line else 3, b"next")]


def test_a_quote_that_stays_open_costs_one_record_and_no_memory():
    records = Records()
    assert list(records.feed(b'a,b\n1,"')) == [(1, b"a,b")]

    for _ in range(70):
        assert list(records.feed(b"x" * (2**20 - 1) + b"\n")) == []
        assert len(records._begun) <= LONGEST

    assert list(records.end()) == [(2, None)]
