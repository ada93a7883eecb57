"""HTML and SVG from templates, in which every value is escaped: only what a template made is markup.

jinja2 comes with torch, and `data` asks for it, so it is there wherever a page is written.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup


def fill(template: str, **values: object) -> Markup:
    """The template with its values in place. Raises jinja2.UndefinedError for one that is not given."""
    from markupsafe import Markup

    return Markup(_compiled(template).render(values))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["comma"] = lambda number: f"{number:,}"
    return environment


@functools.cache
def _compiled(template: str) -> Template:
    return _environment().from_string(template)
