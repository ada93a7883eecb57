"""A model's tokenizer and chat template straight from its files, without torch: what the data doctor counts with.

tokenizer.json is read by the `tokenizers` package, chat templates are rendered by Transformers' own function. A test
holds the tokens equal to those of `AutoTokenizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core import files, installing, quiet
from ..core.errors import BadInput
from ..data.supervision import marks_generation
from ..data.turns import Turns, find_turns
from ..weights import loading, vocabulary

WITH_IT = ("tokenizers", "transformers", "jinja2", "numpy")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with the learned stretches as (start, end) in characters."""

    text: str
    spans: list[tuple[int, int]]


class ModelTokenizer:
    """The tokenizer in a model folder.

    `template` is the chat template or None, `special` the special tokens by role ("bos_token": ...), `stops` the token
    ids that end generation according to the model's configuration, `longest` the model's own limit in tokens,
    `rows` those of the embedding where some tokens have none, and `beyond` the tokens of these that were met.
    """

    def __init__(self, folder: Path, *, backend: Any, template: str | None, special: dict[str, str]) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.folder = folder
        self.backend = backend
        self.template = template
        self.special = special
        self.stops = _stops(folder)
        self.longest = _longest(folder)
        self.rows = vocabulary.embedding_rows(folder) if vocabulary.unembedded(folder) else None
        self.beyond: dict[int, str] = {}

    @property
    def end(self) -> str | None:
        """The end-of-sequence token."""
        return self.special.get("eos_token")

    @property
    def begin(self) -> str | None:
        """The begin-of-sequence token."""
        return self.special.get("bos_token")

    @cached_property
    def adds_begin(self) -> bool:
        """Whether tokenizing plain text puts the begin token before it."""
        begin = self.begin and self.backend.token_to_id(self.begin)
        return begin is not None and self.backend.encode("a").ids[:1] == [begin]

    @cached_property
    def marks_itself(self) -> bool:
        """Whether the template marks the assistant's words."""
        return self.template is not None and marks_generation(self.template)

    @cached_property
    def turns(self) -> Turns:
        """How the template sets answers apart. Raises BadInput when they cannot be told apart."""
        return find_turns(self.plain_render, self.added_specials, self.begin, self.end)

    @cached_property
    def markers(self) -> list[str]:
        """What this chat template sets turns apart with: what stands before answers, and special tokens it writes."""
        if self.template is None:
            return []
        written = [token for token in self.added_specials if token in self.template]
        try:
            answer = self.turns.response.strip()
        except BadInput:
            answer = ""
        return [mark for mark in (answer, *written) if mark and mark not in (self.begin, self.end)]

    @cached_property
    def added_specials(self) -> list[str]:
        """Special tokens of the vocabulary, longest first."""
        added = self.backend.get_added_tokens_decoder().values()
        return sorted((token.content for token in added if token.special), key=len, reverse=True)

    def plain_render(self, messages: list[dict[str, Any]], ask: bool = False, tools: Sequence[Any] = ()) -> str:
        """The conversation as text; `ask` adds what prompts the assistant to speak. Raises what the template raises."""
        texts, _ = _render(self.template, [messages], tools, ask, False, self.special)
        return str(texts[0])

    def render(self, messages: list[dict[str, Any]], tools: Sequence[Any]) -> Rendered:
        """The conversation as text and where its answers are. Raises what the template raises."""
        if self.marks_itself:
            texts, spans = _render(self.template, [messages], tools, False, True, self.special)
            return Rendered(texts[0], [(start, end) for start, end in spans[0] if end > start])
        text = self.plain_render(messages, tools=tools)
        return Rendered(text, self.turns.spans(text))

    def encode(self, texts: list[str], *, special: bool) -> list[Any]:
        """One Encoding a text; `special` lets the tokenizer add its begin and end tokens."""
        found: list[Any] = self.backend.encode_batch(texts, add_special_tokens=special)
        if self.rows is not None:
            rows = self.rows
            self.beyond.update((n, self.backend.id_to_token(n)) for one in found for n in one.ids if n >= rows)
        return found

    def require_embedded(self) -> None:
        """Raise BadInput when texts that were encoded hold tokens for which the model has no embedding."""
        if self.beyond:
            raise vocabulary.refusal(self.beyond, self.rows, "the rows hold")


def load(folder: Path, template_name: str | None = None) -> ModelTokenizer:
    """The tokenizer in `folder`, with the named template instead of its own when one is asked for.

    Raises BadInput when the folder holds none or it is damaged, MissingHere when a package is not installed. Only a
    named template needs unsloth.
    """
    if not folder.is_dir():
        raise BadInput(
            f"model folder not found: {folder}",
            hint="name a local folder with tokenizer.json, or a downloaded model: hf download OWNER/NAME",
        )
    if template_name is not None:
        return _with_named_template(folder, template_name)
    config = _json(folder / "tokenizer_config.json")
    extra = _json(folder / "special_tokens_map.json")
    special = {role: text for role in _SPECIAL if (text := _token_text(config.get(role) or extra.get(role)))}
    return ModelTokenizer(folder, backend=_backend(folder), template=_own_template(folder, config), special=special)


def _with_named_template(folder: Path, name: str) -> ModelTokenizer:
    from ..data import templates

    with quiet.stdout_to_stderr():  # Unsloth presents itself there
        try:
            import unsloth  # noqa: F401  (first: it patches transformers)
        except ModuleNotFoundError as error:
            raise installing.missing(str(error.name), "a named chat template is Unsloth's", "unsloth") from None
        tokenizer = templates.named(loading.tokenizer(folder), name)
    special = {role: str(text) for role in _SPECIAL if (text := getattr(tokenizer, role, None))}
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    return ModelTokenizer(folder, backend=backend, template=tokenizer.chat_template, special=special)


def _backend(folder: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise installing.missing("tokenizers", "it counts tokens", *WITH_IT) from None
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BadInput(
            f"{folder} has no tokenizer.json",
            hint="save the fast tokenizer there: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)",
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a bare Exception for a file it cannot use
        raise BadInput(
            f"{path} is no tokenizer: {str(error).splitlines()[0]}", hint="save the model's tokenizer again"
        ) from None


def _json(path: Path) -> dict[str, Any]:
    value = files.read_json(path, "tokenizer file") if path.is_file() else {}
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds no JSON object", hint="save the model's tokenizer again")
    return value


def _token_text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _own_template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return files.read_text(path, "chat template")
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones; Transformers takes "default" unless told otherwise
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _stops(folder: Path) -> set[int]:
    for name in ("generation_config.json", "config.json"):
        end = _json(folder / name).get("eos_token_id")
        if end is not None:
            return {number for number in (end if isinstance(end, list) else [end]) if isinstance(number, int)}
    return set()


def _longest(folder: Path) -> int | None:
    config = _json(folder / "config.json")
    text = config.get("text_config")
    value = config.get("max_position_embeddings") or (
        text.get("max_position_embeddings") if isinstance(text, dict) else None
    )
    return value if isinstance(value, int) and value > 0 else None


def _render(
    template: str | None, conversations: list[Any], tools: Sequence[Any], ask: bool, mask: bool, special: dict[str, str]
) -> tuple[list[str], list[list[tuple[int, int]]]]:
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    except ModuleNotFoundError as error:
        raise installing.missing(str(error.name), "chat templates need it", *WITH_IT) from None
    rendered: tuple[list[str], list[list[tuple[int, int]]]] = render_jinja_template(
        conversations,
        tools=list(tools) or None,
        chat_template=template,
        add_generation_prompt=ask,
        return_assistant_tokens_mask=mask,
        **special,
    )
    return rendered
