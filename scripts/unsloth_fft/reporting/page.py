"""The frame of every page that is written: style, landmarks and tables, with nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.markup import fill

if TYPE_CHECKING:
    from markupsafe import Markup

STYLE = """
:root { color-scheme: light dark; --ink:#1f2430; --soft:#555d6d; --line:#d9dde5; --back:#ffffff; --card:#f5f6f9;
  --good:#176c40; --bad:#a63a17; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e8ee; --soft:#a7aebd; --line:#3a4050; --back:#171a21;
  --card:#20242e; --good:#63d296; --bad:#ff9a62; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 62rem; padding: 1.5rem 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .4rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.3rem 0 .3rem; }
p { margin: .4rem 0; max-width: 46rem; } .soft { color: var(--soft); } .good { color: var(--good); }
.bad { color: var(--bad); } li { margin: .25rem 0; max-width: 46rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-weight: 650; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.n, th.n { text-align: right; padding-right: 0;
  padding-left: .6rem; font-variant-numeric: tabular-nums; } tbody th { font-weight: 500; }
figure { margin: 0; } figcaption { margin: .4rem 0; max-width: 46rem; color: var(--soft); }
.wide { overflow-x: auto; } img, svg { max-width: 100%; height: auto; } .wide svg { max-width: none; }
blockquote { margin: .2rem 0; padding: .5rem .9rem; max-width: 46rem;
  border-left: 3px solid var(--line); background: var(--card); white-space: pre-wrap; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; font-size: .92em; } .pair { display: inline-block; margin-right: 1.1rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem;
  white-space: pre-wrap; margin: .2rem 0 .8rem; }
"""


_DOCUMENT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">\
<title>{{ title }}</title><style>{{ style | safe }}</style></head>
<body><main>{{ body }}</main></body></html>
"""
_SECTION = "<section><h2>{{ title }}</h2>{{ body }}</section>"
_WIDE = """<div class="wide" role="region" tabindex="0" aria-label="{{ name }}">{{ body }}</div>"""
_TABLE = """<table><thead><tr>\
{% for text in head %}<th scope="col"{% if not loop.first %} class="n"{% endif %}>{{ text }}</th>{% endfor %}
</tr></thead><tbody>\
{% for row in rows %}
<tr>{% for text in row %}
{% if loop.first %}<th scope="row">{{ text }}</th>{% else %}<td class="n">{{ text }}</td>{% endif %}
{% endfor %}</tr>{% endfor %}</tbody></table>"""


def document(title: str, body: Markup) -> Markup:
    """A whole page in English around `body`, which is its main landmark."""
    return fill(_DOCUMENT, title=title, style=STYLE, body=body)


def section(title: str, body: Markup) -> Markup:
    """A section with its heading."""
    return fill(_SECTION, title=title, body=body)


def wide(name: str, body: Markup) -> Markup:
    """Something that may be wider than a phone: it scrolls by itself, by keyboard too, and is called `name`."""
    return fill(_WIDE, name=name, body=body)


def table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table of plain text called `name`: the first column names each row, the others are figures."""
    return wide(name, fill(_TABLE, head=head, rows=rows))
