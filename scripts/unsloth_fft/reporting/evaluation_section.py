"""What `eval` found, in the report of its session: losses with their interval, answers before and after.

The rest of the page stays as it was written; the section stands between two comments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..core import files
from ..core.errors import FFTError
from ..core.markup import fill
from ..training.session import Folder
from .page import section, table

if TYPE_CHECKING:
    from markupsafe import Markup

_START, _END = "<!-- evaluation -->", "<!-- end of evaluation -->"
_SLOT = f"{_START}{{{{ section }}}}{_END}"
_LOSSES = ("rows", "tokens", "loss before", "loss after", "change", "interval", "verdict")
_BODY = """\
{% if losses %}<p class="soft">The interval of the change is one of {{ confidence }}. Lower losses are better.</p>\
{{ losses }}{% endif %}{{ scores }}{% for one in answers %}<h3>{{ one.prompt }}</h3>\
<p class="soft">before</p><blockquote>{{ one.before }}</blockquote>\
<p class="soft">after</p><blockquote>{{ one.after }}</blockquote>{% endfor %}"""


def slot(folder: Folder) -> Markup:
    """The section of an evaluation that is there already, or the place where one will stand."""
    try:
        return written(files.read_json(folder.evaluation, "evaluation") if folder.evaluation.is_file() else None)
    except (FFTError, OSError, KeyError, TypeError, ValueError):  # of another version: the page is worth more
        return written(None)


def put_into(folder: Folder, found: dict[str, Any]) -> bool:
    """Write the JSON evaluation `found` into the session's report; False where it has no place for it."""
    if not folder.report.is_file() or folder.report.is_symlink():
        return False
    page = files.read_text(folder.report, "report")
    changed, times = re.subn(f"{_START}.*?{_END}", lambda _: written(found), page, count=1, flags=re.DOTALL)
    if times:
        files.write_text(folder.report, changed)
    return bool(times)


def written(found: dict[str, Any] | None) -> Markup:
    """The section, or its empty place for None, between its two comments."""
    return fill(_SLOT, section=section("Evaluation", _body(found)) if found else "")


def _body(found: dict[str, Any]) -> Markup:
    measured = [("held-out rows", found["held_out"]), (f"text {found['forgetting_text']}", found["forgetting"])]
    columns = [(name, _figures(one)) for name, one in measured if one is not None]
    head = ("figure", *(name for name, _ in columns))
    rows = [(name, *row) for name, *row in zip(_LOSSES, *(figures for _, figures in columns), strict=True)]
    scores = [
        (f"{task}, {metric}", f"{pair['before']:.4f}", f"{pair['after']:.4f}")
        for task, metrics in (found["lm_eval"] or {}).items()
        for metric, pair in metrics.items()
    ]
    return fill(
        _BODY,
        confidence=f"{found['confidence']:.0%}",
        losses=table("Base and trained model", head, rows) if columns else "",
        scores=table("Tasks", ("task", "before", "after"), scores) if scores else "",
        answers=found["answers"],
    )


def _figures(one: dict[str, Any]) -> tuple[str, ...]:
    low, high = one["difference_low"], one["difference_high"]
    return (
        f"{one['rows']:,}",
        f"{one['tokens']:,}",
        f"{one['loss_before']:.4f}",
        f"{one['loss_after']:.4f}",
        f"{one['difference']:+.4f}",
        "" if low is None or high is None else f"{low:+.4f} to {high:+.4f}",
        one["verdict"],
    )
