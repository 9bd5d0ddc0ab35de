"""The snippets of docs/clients.md that the clients of this folder run."""

import pytest
import snippets


@pytest.mark.parametrize("section", [section for section in snippets.sections("python") if section != "curl"])
def test_the_snippet_works(run_snippets, section, tmp_path):
    printed = run_snippets(section, LLM_USER_PATH=str(tmp_path))

    assert printed
    assert all("capital of France" in output for output in printed)


def test_the_snippets_for_curl_work(run_snippets):
    streamed, others = run_snippets("curl")

    assert streamed.endswith("data: [DONE]\n\n")
    assert others.count("capital of France") == 2


def test_every_section_is_run_or_said_to_be_impossible():
    assert snippets.titles() == list(snippets.GROUPS)
