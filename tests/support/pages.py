"""The pages that people read, and their parts."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README.md": README} | {
    f"docs/{path.name}": path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))
}
"""Each page by its path."""
GENERATED = re.compile(r"<!-- table.*?<!-- end of table -->", re.DOTALL)


def code_blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The shell commands of a page, one a line."""
    lines = [line.split("#")[0].strip() for block in code_blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line]


def inline_commands(page: str) -> list[str]:
    """The commands between backticks, which may go over the end of a line."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    found = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    return [code for code in found if code.startswith("python ")]


def sentences(text: str) -> list[str]:
    """The sentences of prose: without code blocks, tables, headings, pictures and the addresses of links."""
    text = GENERATED.sub("", text)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(#.*|\|.*|<!--.*|!\[.*)$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"\b(et al|e\.g|i\.e|vs)\.", r"\1", text)
    parts = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d\.) ", f"\n{text}")
    found = [" ".join(part.split()) for part in parts]
    return [each for part in found for each in re.split(r"(?<=[.!?:])[*)]*\s+(?=[^a-z])", part) if each]
