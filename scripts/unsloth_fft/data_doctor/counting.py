"""Counts the tokens of rows batch by batch: how many, which are learned, and what repeats."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import BadInput, FFTError
from ..data.row_format import Content, Conversation, Pair, Text
from ..data.supervision import (
    kept_stretches,
    must_be_kept,
    naming_reasoning_as,
    refuse_losses,
    refuse_markers,
    refused_by_template,
    turn_is_said,
)
from . import learned_view
from .duplicates import Groups, Signatures
from .oddities import OddRows
from .report import Oddities, Stretch
from .tokenizer import ModelTokenizer

NEVER = 2**32 - 1  # position of the first learned token where there is none


@dataclass(frozen=True)
class Counted:
    """One entry a row, empty rows included with zero tokens, as NumPy arrays.

    `tokens` before cutting; `within` after cutting at the limit, where there is one; `learned` of those;
    `first_learned` and `last_learned` are positions before cutting; `windowed` says which rows are raw text.
    """

    tokens: Any
    within: Any
    learned: Any
    first_learned: Any
    last_learned: Any
    windowed: Any
    groups: Groups
    unexpected_turns: int
    begun_twice: int
    end_of_turn: str | None
    every_turn_ends: bool | None
    samples: list[list[Stretch]]
    oddities: Oddities

    @property
    def has_tokens(self) -> bool:
        """Whether any row holds a token."""
        return bool((self.tokens > 0).any())

    def examples(self, rows: Any, limit: int) -> Any:
        """Lengths of the training sequences that `rows` become at `limit`: cut, or for raw text in windows."""
        import numpy

        from . import lengths

        texts = self.windowed[rows]
        cut = numpy.minimum(self.tokens[rows[~texts]], limit).astype("int64")
        return numpy.concatenate([cut, lengths.windows(self.tokens[rows[texts]], limit)])


@dataclass
class _Batch:
    """Rows waiting to be tokenized together. A pair is two texts, so `pieces` says how many each row has."""

    texts: list[str] = field(default_factory=list)
    begun: list[bool] = field(default_factory=list)
    rows: list[tuple[Content, list[tuple[int, int]]]] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


class Counter:
    """Takes rows in order; `limit` is the length at which rows are cut, None when it is not known yet."""

    def __init__(
        self, tokenizer: ModelTokenizer, *, loss_on: str, limit: int | None, find_repeats: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._learn_all = loss_on == "all"
        self._limit = limit if limit is not None else NEVER
        self._batch = _Batch()
        self._signatures = Signatures() if find_repeats else None
        self._columns = {name: array("I") for name in ("tokens", "within", "learned", "first", "last", "windowed")}
        self._unexpected = self._begun_twice = 0
        self._seen_conversation = False
        self._odd = OddRows(tokenizer.markers)
        self._samples: list[list[Stretch]] = []

    @property
    def rows(self) -> int:
        """Rows taken so far, empty ones included, once flushed."""
        return len(self._columns["tokens"]) + len(self._batch.rows)

    def add(self, content: Content) -> None:
        """Take one row. Raises RowProblem when the chat template refuses it, BadInput when there is no template."""
        batch, tokenizer = self._batch, self._tokenizer
        self._odd.add(content)
        if isinstance(content, Conversation):
            text, spans = self._rendered(content)
            batch.texts.append(text)
            batch.begun.append(False)
            batch.read.append(text)
            batch.words.append(" ".join(turn["content"] for turn in content.messages if turn["role"] != "system"))
            self._note_begin(text, tokenizer.begin, tokenizer.begin)
            self._show((text,), spans, special=False)
        elif isinstance(content, Pair):
            spans = []
            batch.texts.extend((content.prompt, content.completion))
            batch.begun.extend((True, False))
            batch.read.append(f"{content.prompt}\0{content.completion}")
            batch.words.append(f"{content.prompt} {content.completion}")
            self._note_begin(content.prompt, tokenizer.begin if tokenizer.adds_begin else None, "")
            answer = (len(content.prompt), len(content.prompt) + len(content.completion))
            self._show((content.prompt, content.completion), [answer], special=True)
        else:
            spans = []
            batch.texts.append(content.text)
            batch.begun.append(True)
            batch.read.append(content.text)
            batch.words.append(content.text)
            self._note_begin(content.text, tokenizer.begin if tokenizer.adds_begin else None, "")
            self._show((content.text,), [(0, len(content.text))], special=True)
        batch.rows.append((content, spans))

    def add_empty(self) -> None:
        """Take a row that holds nothing to learn."""
        self._batch.rows.append((Text(""), []))
        self._batch.read.append(f"empty row {self.rows}")
        self._batch.words.append("")

    def flush(self) -> None:
        """Tokenize what was taken since the last flush."""
        batch, self._batch = self._batch, _Batch()
        encodings = iter(self._encoded(batch))
        for content, spans in batch.rows:
            if isinstance(content, Text) and not content.text:
                self._store(0, [], windowed=False)
            elif isinstance(content, Conversation):
                encoding = next(encodings)
                self._store(len(encoding), self._token_spans(encoding, spans), windowed=False)
            elif isinstance(content, Pair):
                prompt, answer = next(encodings), next(encodings)
                start, whole = len(prompt), len(prompt) + len(answer) + self._ending
                self._store(whole, [(0 if self._learn_all else start, whole)], windowed=False)
            else:
                encoding = next(encodings)
                whole = len(encoding) + self._ending
                self._store(whole, [(0, whole)], windowed=True)
        if self._signatures is not None:
            self._signatures.add(batch.read, batch.words)

    def ends(self) -> list[int]:
        """How many tokens each row needs to keep the end of its last answer; 0 for raw text and empty rows."""
        columns = self._columns
        rows = zip(columns["tokens"], columns["last"], columns["windowed"], strict=True)
        return [0 if windowed or not tokens else last + 1 for tokens, last, windowed in rows]

    def oddities(self) -> Oddities:
        """What is odd about the rows taken so far."""
        return self._odd.result()

    def result(self) -> Counted:
        """What was counted. The counter is used up."""
        import numpy

        assert self._signatures is not None, "result() needs repeats"
        columns = {name: numpy.frombuffer(column, dtype="uint32") for name, column in self._columns.items()}
        end, every = self._end_of_turn()
        return Counted(
            tokens=columns["tokens"],
            within=columns["within"],
            learned=columns["learned"],
            first_learned=columns["first"],
            last_learned=columns["last"],
            windowed=columns["windowed"].astype(bool),
            groups=self._signatures.groups(),
            unexpected_turns=self._unexpected,
            begun_twice=self._begun_twice,
            end_of_turn=end,
            every_turn_ends=every,
            samples=self._samples,
            oddities=self._odd.result(),
        )

    @property
    def _ending(self) -> int:
        return 1 if self._tokenizer.end else 0

    def _show(self, pieces: tuple[str, ...], spans: list[tuple[int, int]], *, special: bool) -> None:
        """Keep the first rows as the model reads them: begun and ended as training does, cut at the limit.

        `pieces` are tokenized apart; `spans` are learned, in characters of all of them.
        """
        if len(self._samples) == learned_view.SAMPLES:
            return
        text, left, seen = "".join(pieces), self._limit, 0
        spans = [(0, len(text))] if self._learn_all and special else spans
        first = None
        for piece, begun in zip(pieces, (special, False), strict=False):
            offsets = self._tokenizer.encode([piece], special=begun)[0].offsets
            first = offsets[0][1] if first is None and offsets else first
            seen += len(piece) if len(offsets) <= left else offsets[left - 1][1] if left else 0
            left -= min(len(offsets), left)
        begin = self._tokenizer.begin if special and self._tokenizer.adds_begin else None
        end = self._tokenizer.end if special and left else None
        if end and spans:
            spans = [*spans[:-1], (spans[-1][0], spans[-1][1] + len(end))]
        stop, skip = seen + len(end or ""), first or 0
        kept = [(max(start, skip), min(until, stop)) for start, until in spans]
        shift = len(begin or "")
        shown = f"{begin or ''}{text[:seen]}{end or ''}"
        self._samples.append(
            learned_view.of_text(shown, [(start + shift, until + shift) for start, until in kept if until > start])
        )

    def _rendered(self, content: Conversation) -> tuple[str, list[tuple[int, int]]]:
        tokenizer = self._tokenizer
        if tokenizer.template is None:
            raise BadInput(
                "the tokenizer has no chat template, and the data are conversations",
                hint="name one of Unsloth's with --chat-template, for example --chat-template chatml",
            )
        messages = naming_reasoning_as(tokenizer.template, content.messages)
        refuse_markers(messages, None, tokenizer.end)
        says_what_not = any(turn_is_said(messages[position]) for position in content.unlearned)
        try:
            if self._learn_all and not says_what_not:
                text = tokenizer.plain_render(messages, tools=content.tools)
                spans = [(0, len(text))]
            else:
                rendered = tokenizer.render(messages, content.tools)
                text, spans = rendered.text, rendered.spans
        except FFTError:
            raise
        except Exception as error:  # a Jinja template may raise anything; its words are the explanation
            raise refused_by_template(error, messages) from None
        refuse_losses(text, must_be_kept(messages, content.tools, content.unlearned))
        if self._learn_all and not says_what_not:
            self._seen_conversation = True
            return text, spans
        if not tokenizer.marks_itself:
            refuse_markers(messages, tokenizer.turns.response, None)
        answers = sum(turn["role"] == "assistant" for turn in messages)
        self._unexpected += not self._learn_all and len(spans) != answers
        spans = _joined(spans) if content.unlearned else spans
        kept = kept_stretches(spans, messages, content.unlearned)
        if self._learn_all:
            kept = _outside(len(text), [span for span in spans if span not in kept])
        self._seen_conversation = True
        return text, kept

    def _note_begin(self, text: str, added: str | None, own: str | None) -> None:
        """Count a row that would start with the begin token twice: one `added` or the template's `own`, and its own."""
        begin = self._tokenizer.begin
        if begin and added and own is not None:
            self._begun_twice += text.startswith(own + begin)

    def _encoded(self, batch: _Batch) -> list[Any]:
        if not any(batch.begun):
            return self._tokenizer.encode(batch.texts, special=False) if batch.texts else []
        if all(batch.begun):
            return self._tokenizer.encode(batch.texts, special=True)
        found: list[Any] = [None] * len(batch.texts)
        for special in (True, False):
            places = [place for place, begun in enumerate(batch.begun) if begun is special]
            for place, encoding in zip(
                places, self._tokenizer.encode([batch.texts[place] for place in places], special=special), strict=True
            ):
                found[place] = encoding
        return found

    @staticmethod
    def _token_spans(encoding: Any, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Spans in characters as spans in tokens; one in which no token starts is left out."""
        found = []
        for start, stop in spans:
            first, last = encoding.char_to_token(start), encoding.char_to_token(stop - 1)
            if first is not None and last is not None:
                found.append((first, last + 1))
        return found

    def _store(self, tokens: int, spans: Sequence[tuple[int, int]], *, windowed: bool) -> None:
        limit = NEVER if windowed else self._limit
        columns = self._columns
        columns["tokens"].append(tokens)
        columns["within"].append(min(tokens, limit))
        # The first token is predicted from nothing, so it is never learned.
        kept = [(max(start, 1), stop) for start, stop in spans if stop > 1]
        columns["learned"].append(sum(max(min(stop, limit) - start, 0) for start, stop in kept))
        columns["first"].append(kept[0][0] if kept else NEVER)
        columns["last"].append(kept[-1][1] - 1 if kept else 0)
        columns["windowed"].append(windowed)

    def _end_of_turn(self) -> tuple[str | None, bool | None]:
        """What ends an answer in the template, and whether that is so for every answer and not the last alone."""
        if not self._seen_conversation or self._learn_all:
            return self._tokenizer.end, None
        answer = "answerprobe4z9"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
        rendered = self._tokenizer.render(turns * 2, [])
        ends = [rendered.text[start:stop].partition(answer)[2].strip() for start, stop in rendered.spans]
        return (ends[-1] or None, all(ends)) if ends else (None, False)


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """`spans` with those that touch made one, as their tokens are."""
    found: list[tuple[int, int]] = []
    for start, stop in spans:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _outside(length: int, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What `spans`, in order, leave of a text of `length` characters."""
    starts, stops = [0, *(stop for _, stop in spans)], [*(start for start, _ in spans), length]
    return [(start, stop) for start, stop in zip(starts, stops, strict=True) if stop > start]
