"""The snippets of docs/clients.md that the clients of this folder run."""

import pytest
import snippets


@pytest.mark.parametrize("section", snippets.sections("agents"))
def test_the_snippet_works(run_snippets, section, home):
    (printed,) = run_snippets(section, HOME=str(home))

    assert "capital of France" in printed
