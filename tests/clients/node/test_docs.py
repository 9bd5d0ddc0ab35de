"""The snippets of docs/clients.md that the clients of this folder run."""

import pytest
import snippets


@pytest.mark.parametrize("section", snippets.sections("node"))
def test_the_snippet_works(run_snippets, section):
    for printed in run_snippets(section):
        assert "capital of France" in printed
