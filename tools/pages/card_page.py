"""A model card as one HTML page, so that look_at_page.mjs can look at it.

    python -m tools.pages.card_page my-model card.html

Markdown is rendered by markdown-it-py, and the card's pictures are put into the page. The Hub has a style of its own:
what this shows is the card's words, tables, code and pictures, not the Hub.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt

from unsloth_fft.reporting.page import document


def card_page(folder: Path) -> str:
    """The page of the card in `folder`."""
    text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    body = MarkdownIt("commonmark").enable("table").render(text)
    body = re.sub(r'src="([^":]+)"', lambda found: f'src="{_inline(folder / found[1])}"', body)
    # What every renderer on the web does for code and tables wider than the page: they scroll.
    body = body.replace("<pre>", '<pre tabindex="0">')
    return document(folder.name, body)


def _inline(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(card_page(Path(sys.argv[1])), encoding="utf-8")
