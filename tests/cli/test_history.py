"""`ai-proxy history …`"""

import asyncio
import json
import stat

import pytest
from typer.testing import CliRunner

from ai_proxy.cli import app
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import Exchange, Usage
from ai_proxy.services.times import now
from ai_proxy.storage import keys, records, schema, search
from ai_proxy.storage.engine import Database


@pytest.fixture
def said(tmp_path, bare_environment):
    """What the command says, with a database in a directory of the test's own."""

    def said(*words: str, typed: str | None = None, columns: int = 140) -> tuple[int, str]:
        environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/data/x.db", "COLUMNS": str(columns)}
        result = CliRunner(env=environment).invoke(app, ["history", *words], input=typed)
        return result.exit_code, result.output

    return said


@pytest.fixture
def asked(tmp_path):
    """Write exchanges with these questions. Returns their ids."""

    async def write(questions: tuple[str, ...]) -> list[str]:
        async with Database(f"sqlite+aiosqlite:///{tmp_path}/data/x.db", directory=tmp_path / "data") as database:
            await schema.upgrade(database)
            await keys.add(database, key_id="k", name="laptop", digest="d", hint="h", created_at=1)
            exchanges = [_exchange(question) for question in questions]
            if exchanges:
                await records.add(database, exchanges)
            await search.index_next(database, most=100)
            return [exchange.id for exchange in exchanges]

    return lambda *questions: asyncio.run(write(questions))


def _exchange(question: str) -> Exchange:
    given = {"key_id": "k", "model": "small", "provider": "p", "answer": "Yes.\nIndeed.", "conversation_id": None}
    at = now()
    return Exchange(id=uuid7(), question=question, created_at=at, started=0.0, usage=Usage(10, 5), cost=2_000, **given)


def test_the_list_is_newest_first_and_fits_the_terminal(said, asked):
    asked("first " * 100, "ёлки\nгде")  # noqa: RUF001

    code, text = said("list", columns=130)

    newest, oldest = text.splitlines()
    assert code == 0
    assert newest.endswith("0.000002  small                 ёлки где")
    assert len(oldest) == 130
    assert oldest.endswith("…")


def test_in_a_narrow_terminal_the_question_has_a_line_of_its_own(said, asked):
    asked("first " * 100)

    lines = said("list", columns=80)[1].splitlines()

    assert [len(line) <= 80 for line in lines] == [True, True]
    assert lines[1].startswith("    first first")


def test_as_json_it_is_what_is_exported(said, asked):
    asked("first")

    listed = json.loads(said("list", "--json")[1])

    exported = json.loads(said("export", "-")[1].partition("\n")[0])
    assert listed == [exported]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--model", "small"], 2),
        (["--model", "big"], 0),
        (["--key", "laptop"], 2),
        (["--status", "failed"], 0),
        (["--min-cost", "0.000002"], 2),
        (["--from", "2100-01-01"], 0),
        (["--limit", "1"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_filters(said, asked, words, found):
    asked("first", "second")

    code, text = said("list", *words)

    assert (code, len(text.splitlines())) == (0, found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--key", "nobody's"], "ai-proxy: --key: there is no key of this name"),
        (["list", "--min-cost", "much"], "ai-proxy: --min-cost: must be an amount"),
        (["list", "--from", "yesterday"], "ai-proxy: --from: must be a day"),
        (["export", "-", "--format", "xml"], "ai-proxy: --format: must be one of jsonl, chat, csv."),
        (["search", "!?"], "ai-proxy: WORDS: "),
        (["show", "nothing"], "ai-proxy: There is no such exchange."),
        (["import", "nowhere.jsonl"], "ai-proxy: nowhere.jsonl: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line(said, asked, words, message):
    asked("first")

    code, text = said(*words)

    assert code == 1
    assert text.startswith(message)
    assert len(text.splitlines()) == 1


def test_search_finds_by_words(said, asked):
    asked("the capital of France", "something else")

    code, text = said("search", "capital")

    assert (code, len(text.splitlines())) == (0, 1)


def test_one_exchange_is_shown_with_its_texts_and_as_json_with_all(said, asked):
    (identifier,) = asked("red \x1b[31m?")

    _, text = said("show", identifier)

    assert "answer:\nYes.\nIndeed." in text
    assert "\x1b" not in text
    assert r"red \x1b[31m?" in text
    assert json.loads(said("show", identifier, "--json")[1])["usage"]["input_tokens"] == 10


def test_a_terminal_obeys_no_text(said, asked):
    asked("\x1b[31m", "\u202ereversed")

    assert not {"\x1b", "\u202e"} & set(said("list")[1])


def test_a_file_that_is_exported_is_private_whole_and_not_replaced_by_chance(said, asked, tmp_path):
    asked("first")

    written, refused, forced = said("export", "x"), said("export", "x"), said("export", "x", "--force")

    assert [code for code, _ in (written, refused, forced)] == [0, 1, 0]
    assert refused[1] == "ai-proxy: x: x is there already: say --force to replace it\n"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("x*")] == ["x"]


def test_an_export_that_fails_leaves_nothing(said, asked, tmp_path):
    asked("first")

    assert said("export", "x", "--format", "xml")[0] == 1

    assert list(tmp_path.glob("x*")) == []


def test_what_was_exported_and_removed_is_imported(said, asked, tmp_path):
    asked("first", "second")
    said("export", "x")
    (tmp_path / "data" / "x.db").unlink()
    asked()

    imported, again = said("import", "x", "--key", "laptop"), said("import", "x", "--key", "laptop")

    whose = "What was of a key that is not here: of laptop (k).\n"
    assert imported == (0, f"Imported: 2. There already: 0. Bad lines: 0.\n{whose}")
    assert again == (0, f"Imported: 0. There already: 2. Bad lines: 0.\n{whose}")


def test_a_csv_that_was_exported_is_imported_without_saying_what_it_is(said, asked, tmp_path):
    asked("first", "=second")
    before = said("export", "-", "--format", "csv")[1]
    said("export", "x", "--format", "csv")
    (tmp_path / "data" / "x.db").unlink()
    asked()

    imported, again = said("import", "x", "--key", "laptop"), said("import", "x", "--key", "laptop")

    assert imported[1].startswith("Imported: 2. There already: 0. Bad lines: 0.\n")
    assert again[1].startswith("Imported: 0. There already: 2. Bad lines: 0.\n")
    assert said("export", "-", "--format", "csv")[1] == before


def test_a_file_of_neither_form_is_refused_as_a_whole(said, asked):
    asked()

    code, text = said("import", "-", "--key", "laptop", typed="id,\x1b[31mcolour\n")

    assert code == 1
    assert text.endswith("has an unknown column: '\\x1b[31mcolour'.\n")
    assert len(text.splitlines()) == 1


def test_bad_lines_are_told_and_the_exit_code_says_so(said, asked):
    asked()

    code, text = said("import", "-", typed="{nonsense\n")

    assert code == 1
    assert text.startswith("Imported: 0. There already: 0. Bad lines: 1.\nline 1: JSON is malformed")


def test_without_a_key_there_is_nobody_to_import_to(said, tmp_path):
    code, text = said("import", "-", typed="")

    assert code == 1
    assert text.startswith("ai-proxy: --key: name one, because the operator has none")
