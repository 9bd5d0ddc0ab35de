"""The shape of the house, where no linter looks."""

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_in_the_head(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_in_its_first_line(path):
    text = path.read_text()

    assert not text or text.startswith('"""')


@pytest.mark.parametrize("name", ["manager", "helper", "utils", "processor"])
def test_no_file_or_class_has_a_name_that_says_nothing(name):
    pattern = re.compile(rf"class \w*{name}", re.IGNORECASE)

    guilty = [path for path in SOURCES if name in path.name or pattern.search(path.read_text())]

    assert guilty == []


def test_half_of_the_functions_are_short():
    lengths = sorted(_function_lengths())

    assert lengths[len(lengths) // 2] < 12


def test_every_decision_is_listed():
    decisions = [path.name for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]

    assert (
        sorted(set(re.findall(r"\(decisions/(\S+\.md)\)", (ROOT / "docs" / "architecture.md").read_text())))
        == decisions
    )


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    lists = [project["project"]["dependencies"], *extras.values(), *groups.values()]
    names = {re.match(r"[\w-]+", wanted)[0] for wanted in itertools.chain(*lists)}
    decision = (ROOT / "docs" / "decisions" / "0008-dependencies.md").read_text()

    assert {name for name in names if not re.search(rf"\b{name}\b", decision)} == set()


def _function_lengths():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.end_lineno - node.lineno + 1
