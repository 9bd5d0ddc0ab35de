"""The history as CSV: what goes from one service to another, and what does not."""

import csv
import io
import json

import pytest

from ai_proxy.core.ids import uuid7
from tests.e2e.test_transfer import LINES, exchange, exported, fill, imported, lines

TYPE = {"content-type": "text/csv; charset=utf-8"}
COLUMNS = ("id", "created_at", "key_id", "user_id", "model", "question")
HARD = [
    '=HYPERLINK("http://example.org")',
    "'=1",
    "''-1\n",
    "'quoted'",
    "\r\n",
    ' "two"\r\nlines, and "" \r',
    "\u2028 \ufeff",
    "{",
    " ",
]


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def boss(service, managing):
    return managing(service)


def fill_with_hard_texts(client) -> None:
    """What CSV might spoil, and feedback and tags that need its signs."""
    given = [
        exchange(number, question=text, answer=text[::-1], conversation={"id": uuid7()}, first_token_ms=0.1 + number)
        for number, text in enumerate(HARD)
    ]
    given[0] |= {"tags": ["-", "a, b", 'say "hi"', "=x"], "status": "failed", "error": "timeout", "stream": True}
    said = {"created_at": given[1]["created_at"], "user_id": given[1]["user_id"], "score": 0.1, "comment": "+\n'"}
    given[1] |= {"feedback": said, "cost_usd": "0.000000001", "usage": {"input_tokens": 2**40, "estimated": True}}
    given[2] |= {"texts": "none", "question": "", "answer": "", "tags": ["\n ", ","], "duration_ms": 1e-7}
    report = imported(client, "\n".join(map(json.dumps, given)))
    assert (report["imported"], report["bad"]) == (len(HARD), 0)


def sent(client, content, **query) -> dict:
    answer = client.post("/api/history/import", content=content, headers=TYPE, params=query)
    return answer.raise_for_status().json()


def table(*rows: dict, columns: tuple[str, ...] = COLUMNS, end: str = "\r\n") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def first_key(service) -> str:
    return json.loads(service.run("keys", "list", "--json").stdout)[0]["id"]


def test_what_is_exported_and_imported_is_exported_again_as_it_was(pair, managing):
    first, second = pair
    fill(first)
    fill_with_hard_texts(managing(first))
    before = exported(first.client, format="csv")

    report = sent(managing(second), before)

    assert (report["imported"], report["existing"], report["bad"]) == (7 + len(HARD), 0, 0)
    after = exported(second.client, format="csv")
    assert after.replace(first_key(second), first_key(first)) == before
    assert {"stream", "error", "score", "tags", "first_token_ms"} <= {
        name for row in rows(after) for name in row if row[name]
    }


def test_a_second_import_changes_nothing(pair, managing):
    first, second = pair
    fill(first)
    boss = managing(second)
    given = exported(first.client, format="csv")
    sent(boss, given)
    before, usage = exported(second.client), boss.get("/api/usage").json()

    report = sent(boss, given)

    assert (report["imported"], report["existing"]) == (0, 7)
    assert (exported(second.client), boss.get("/api/usage").json()) == (before, usage)


def test_figures_and_texts_come_and_bodies_tries_prices_and_titles_do_not(pair, managing):
    first, second = pair
    fill(first)
    sent(managing(second), exported(first.client, format="csv"))

    before, after = ([comparable(line) for line in lines(exported(service.client))] for service in pair)

    assert after == [line | {"attempts": [], "price": None} for line in before]
    assert "request" in lines(exported(first.client))[3]
    assert not any("request" in line for line in lines(exported(second.client)))


def comparable(line: dict) -> dict:
    """Without what is another's there, and what no row has."""
    gone = {"key_id": "", "request": None, "response": None, "response_id": None}
    talk, feedback = line["conversation"], line["feedback"]
    changed = {"conversation": talk and talk["id"], "feedback": feedback and {**feedback, "created_at": ""}}
    return {**line, **gone, **changed}


def test_texts_that_look_like_formulas_come_as_they_were(start, boss, managing):
    fill_with_hard_texts(boss)
    other = start()

    given = exported(boss, format="csv")
    sent(managing(other), given)

    assert [row["question"][:4] for row in rows(given)[:4]] == ["'=HY", "''=1", "", "'quo"]
    assert [line["question"] for line in lines(exported(other.client))] == [*HARD[:2], "", *HARD[3:]]


def test_the_form_is_found_in_the_file_whatever_the_type_says(boss):
    row, line = exchange(1), exchange(2)

    first = imported(boss, table(row))
    second = sent(boss, json.dumps(line))

    assert (first["imported"], second["imported"]) == (1, 1)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_spreadsheet_may_have_written_it(service, boss, end, mark):
    columns = (*COLUMNS, "stream", "answer", "thumb", "tags", "project_id")
    more = {"stream": "TRUE", "answer": "two\r\nlines ", "thumb": "down", "tags": "b,a", "project_id": ""}

    report = sent(boss, mark + table({**exchange(1), **more}, columns=columns[::-1], end=end) + end)

    (found,) = lines(exported(service.client))
    assert (report["imported"], report["bad"]) == (1, 0)
    assert (found["stream"], found["answer"], found["tags"]) == (True, "two\r\nlines ", ["a", "b"])
    feedback = found["feedback"]
    assert (feedback["thumb"], feedback["created_at"], feedback["user_id"]) == (
        "down",
        found["created_at"],
        found["user_id"],
    )


def test_a_bad_row_is_told_with_the_line_it_begins_in_and_keeps_out_no_other(service, boss):
    columns = (*COLUMNS, "stream", "input_tokens", "cost_usd", "tags")
    good = {**exchange(1, question="two\nlines"), "stream": "False", "input_tokens": "3"}
    bad = [
        {"stream": "perhaps"},
        {"input_tokens": "many"},
        {"input_tokens": "-1"},
        {"cost_usd": "dear"},
        {"tags": '"a'},
        {"id": "7"},
        {"created_at": ""},
        {"key_id": ""},
    ]
    given = table(good, *({**good, **fields} for fields in bad), columns=columns, end="\n")
    given += 'a,b\na,"b"c\n' + table({**good, **exchange(2)}, columns=columns).partition("\n")[2]

    report = sent(boss, given)

    assert (report["imported"], report["bad"]) == (2, len(bad) + 2)
    assert [(problem["line"], problem["reason"]) for problem in report["problems"]] == [
        (4, "stream: must be True or False"),
        (6, "input_tokens: must be a number"),
        (8, "Expected `int` >= 0 - at `$.usage.input_tokens`"),
        (10, "cost_usd: must be an amount of US dollars with at most 9 decimals, such as 5.00"),
        (12, "tags: its quotes or line breaks are not those of CSV (RFC 4180)"),
        (14, "id: must be a UUID"),
        (16, "Invalid RFC3339 encoded datetime - at `$.created_at`"),
        (18, "Expected `str` of length >= 1 - at `$.key_id`"),
        (20, "it has 2 cells, and the heading 10"),
        (21, "its quotes or line breaks are not those of CSV (RFC 4180)"),
    ]


def test_bytes_that_are_no_text_and_a_quote_that_stays_open_are_bad_rows(boss):
    good = table(exchange(1)).encode()
    row = good.partition(b"\n")[2]

    report = sent(boss, good + row.replace(b"q", b"\xff") + row.replace(b",q", b',"q') + row)

    assert (report["imported"], report["bad"]) == (1, 2)
    assert [problem["line"] for problem in report["problems"]] == [3, 4]


@pytest.mark.parametrize(
    ("heading", "told"),
    [
        ((*COLUMNS, "colour"), "has an unknown column: 'colour'"),
        ((*COLUMNS, "model"), "has a column twice: model"),
        (COLUMNS[1:-1], "lacks columns that every exchange has: id, question"),
        ((";".join(COLUMNS),), "has an unknown column: 'id;created_at;"),
        (('"id',), "no heading of CSV: its quotes"),
        (("x" * 20_000,), "no heading of CSV: it is too long"),
    ],
    ids=["unknown", "twice", "missing", "semicolons", "quote", "long"],
)
def test_a_file_that_is_no_export_is_refused_as_a_whole(service, boss, heading, told):
    content = ",".join(heading) + "\r\n" + "1,2,3\r\n" * 500_000

    answer = boss.post("/api/history/import", content=content, headers=TYPE)

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert told in answer.json()["error"]["message"]
    assert service.history() == []


def test_a_form_that_nobody_knows_is_refused(boss):
    answer = boss.post("/api/history/import", content=b"", headers={"content-type": "application/xml"})

    assert answer.status_code == 415
    assert {"text/csv", LINES["content-type"]} <= set(
        answer.json()["error"]["message"].replace(",", "").rstrip(".").split()
    )
