"""The snippets of docs/clients.md: which group of clients runs those of which section, and how."""

import os
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "clients.md"
GROUPS = {
    "curl": "python",
    "openai-python": "python",
    "openai-node": "node",
    "anthropic-python": "python",
    "Claude Code": "agents",
    "Codex": "agents",
    "LangChain": "python",
    "LlamaIndex": "llamaindex",
    "Vercel AI SDK": "node",
    "simonw/llm": "python",
    "aider": "aider",
    "Open WebUI": None,  # a package, but of several gigabytes
    "LibreChat": None,  # a container only
    "Continue": "agents",
    "Cursor": None,  # an application that calls from its maker's servers
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections(group: str) -> list[str]:
    return [section for section, its_group in GROUPS.items() if its_group == group]


def titles() -> list[str]:
    return re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)


def blocks(section: str, url: str, key: str) -> list[tuple[str, str]]:
    """Language and text of each snippet of a section, with the page's address and key put right."""
    _, found, rest = PAGE.read_text().partition(f"\n## {section}\n")
    assert found, f"docs/clients.md has no section {section}"
    text = rest.partition("\n## ")[0].replace("http://127.0.0.1:8000", url).replace("aip_…", key)
    return _BLOCK.findall(text)


def settings(section: str, url: str, key: str) -> str:
    """The one settings file that a section shows."""
    ((_, text),) = [block for block in blocks(section, url, key) if block[0] in {"toml", "yaml"}]
    return text


def command(language: str, text: str, directory: Path) -> list[str] | None:
    """The command that runs a snippet as a person would, or None for one that is not a program."""
    if language == "sh":
        return ["sh", "-eu", "-c", text]
    if language == "python":
        return [sys.executable, "-c", text]
    if language == "js":
        # Node looks for packages beside the file that imports them.
        file = Path(sys.prefix) / f"{directory.name}.mjs"
        file.write_text(text)
        return ["node", str(file)]
    return None


def path() -> str:
    """PATH with the programs that npm installed."""
    return f"{sys.prefix}/node_modules/.bin:{os.environ['PATH']}"
