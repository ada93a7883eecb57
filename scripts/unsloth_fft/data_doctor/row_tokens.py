"""How many tokens each row has as training sees it, template and begin and end tokens included; for planning.

Counted where the model's folder has a tokenizer and the packages tokenizers and jinja2 are here, estimated from the
characters where not. Neither torch nor Transformers is loaded.
"""

from __future__ import annotations

from array import array
from pathlib import Path

from ..core.errors import FFTError
from ..data.row_format import Content, Conversation, Pair
from ..data.supervision import naming_reasoning_as
from . import token_estimate
from .plain_template import PlainTemplate
from .tokenizer import ModelTokenizer
from .tokenizer import load as load_tokenizer

COUNTED, SAMPLED, ESTIMATED = "counted", "sampled", "estimated"
MOST_CHARACTERS = 6_000_000  # counted in full, in about three seconds; of more, one row in THEN_EVERY
THEN_EVERY = 20
_BATCH = 500


class RowTokens:
    """Takes rows in order and gives their lengths; `basis` says how good they are."""

    def __init__(self, model: Path | None = None, template_name: str | None = None) -> None:
        self._exact = _Exact.of(model, template_name)
        self._lengths = array("I")
        self._estimates = array("f")
        self._looked_at = (0.0, 0)  # estimated tokens, and their characters
        self._known = array("b")
        self._waiting: list[tuple[int, Content]] = []
        self._seen = 0
        self._has_turns = False

    @property
    def basis(self) -> str:
        """COUNTED, SAMPLED or ESTIMATED."""
        if self._exact is None or (self._known and not any(self._known)):
            return ESTIMATED  # no tokenizer, or no template that takes any of these rows
        return COUNTED if all(self._known) else SAMPLED

    @property
    def lacks_template(self) -> bool:
        """Whether conversations were taken that this tokenizer has no chat template for."""
        return self._has_turns and self._exact is not None and not self._exact.has_template

    def add(self, content: Content) -> None:
        """Take one row."""
        self._has_turns = self._has_turns or isinstance(content, Conversation)
        place = len(self._lengths)
        texts, turns = token_estimate.texts_of(content)
        size = sum(map(len, texts))
        self._seen += size
        if place < token_estimate.ALL_ROWS_TO or place % token_estimate.THEN_EVERY == 0:
            guess = sum(sum(token_estimate.tokens_of(text)) for text in texts)
            self._looked_at = (self._looked_at[0] + guess, self._looked_at[1] + size)
        else:  # as many tokens a character as in the rows before
            guess = size * self._looked_at[0] / max(self._looked_at[1], 1)
        guess += turns * token_estimate.ROLE_TOKENS + 1.0
        self._lengths.append(max(round(guess), 1))
        self._estimates.append(guess)
        counts = self._exact is not None and (self._seen <= MOST_CHARACTERS or place % THEN_EVERY == 0)
        self._known.append(counts)
        if counts:
            self._waiting.append((place, content))
            if len(self._waiting) == _BATCH:
                self._count()

    def lengths(self) -> list[int]:
        """Tokens of each row taken, in order; what was not counted is scaled by what was."""
        self._count()
        if self.basis == SAMPLED:
            known = [place for place, is_known in enumerate(self._known) if is_known]
            scale = sum(self._lengths[place] for place in known) / sum(self._estimates[place] for place in known)
            for place, is_known in enumerate(self._known):
                if not is_known:
                    self._lengths[place] = max(round(self._estimates[place] * scale), 1)
        return self._lengths.tolist()

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._exact is None or not waiting:
            return
        for (place, _), length in zip(waiting, self._exact.lengths([row for _, row in waiting]), strict=True):
            if length is None:
                self._known[place] = False
            else:
                self._lengths[place] = length


class _Exact:
    """A tokenizer and its template."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = PlainTemplate(tokenizer.template, tokenizer.special) if tokenizer.template else None

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered at all."""
        return self._template is not None

    @staticmethod
    def of(model: Path | None, template_name: str | None) -> _Exact | None:
        """None where rows cannot be counted: no folder, no tokenizer.json, a package missing, another template."""
        if model is None or template_name is not None or not (model / "tokenizer.json").is_file():
            return None
        try:
            return _Exact(load_tokenizer(model))
        except (FFTError, ModuleNotFoundError):
            return None
        except Exception:  # a template that jinja2 cannot compile; training says what is wrong with it
            return None

    def lengths(self, rows: list[Content]) -> list[int | None]:
        """Tokens of each row, None for one that the template refuses."""
        rendered = [self._text(row) for row in rows]
        plain = [text for text in rendered if text is not None]
        texts = [part for row in rows if not isinstance(row, Conversation) for part in _parts(row)]
        counts = iter(map(len, self._tokenizer.encode(plain, special=False) if plain else []))
        begun = iter(map(len, self._tokenizer.encode(texts, special=True) if texts else []))
        added = len(self._tokenizer.encode([""], special=True)[0]) if texts else 0
        end = 1 if self._tokenizer.end else 0
        found: list[int | None] = []
        for row, text in zip(rows, rendered, strict=True):
            if isinstance(row, Conversation):
                found.append(None if text is None else next(counts))
            elif isinstance(row, Pair):
                found.append(next(begun) + next(begun) - added + end)
            else:
                found.append(next(begun) + end)
        return found

    def _text(self, row: Content) -> str | None:
        if not isinstance(row, Conversation) or self._template is None:
            return None
        try:
            return self._template.render(naming_reasoning_as(self._tokenizer.template, row.messages), row.tools)
        except Exception:  # a template may raise anything; init says what it refused
            return None


def _parts(row: Content) -> list[str]:
    return [row.prompt, row.completion] if isinstance(row, Pair) else [row.text]  # type: ignore[union-attr]
