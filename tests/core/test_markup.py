"""What the templates of the pages promise: a value is text, and one that is missing is not passed over."""

from __future__ import annotations

import jinja2
import pytest

from unsloth_fft.core.markup import fill


def test_a_value_is_text_and_what_a_template_made_is_markup():
    hostile = "<script>alert('x')</script> & \"y\""
    inner = fill('<b title="{{ words }}">{{ words }}</b>', words=hostile)
    page = fill("<p>{{ inner }}{% for one in several %}{{ one }}{% endfor %}</p>", inner=inner, several=[hostile])
    assert "<script" not in page and page.count("&lt;script&gt;") == 3 and page.startswith('<p><b title="&lt;script')


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        fill("{{ nothing }}")


def test_large_numbers_are_grouped():
    assert fill("{{ count | comma }}", count=1234567) == "1,234,567"
