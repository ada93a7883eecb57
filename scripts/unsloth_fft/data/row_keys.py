"""Which keys of a row are used, which say that the row is meant for another training, and which are not looked at.

A key that changes the meaning of training is used or refused by name. What is left (an id, a source, a category) is
harmless, and is counted by whoever reads the rows, so that nobody takes it for used.
"""

from __future__ import annotations

import re
from typing import Any

from . import other_names
from .row_problems import RowProblem

# Names that a row's parts have in the formats read here, without those of the question and its answer.
BESIDE = ("system", "system_prompt", "history", "tools", "functions")
USED = {
    "messages": ("messages", "conversations"),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "input", "context", "output", "response"),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}
# Names that can be given to other columns.
COLUMNS = tuple(dict.fromkeys([*(key for keys in USED.values() for key in keys), *BESIDE]))

_PREFERENCE = (
    *("chosen", "rejected", "chosen_response", "rejected_response", "chosen_messages", "rejected_messages"),
    *("rejected_output", "rejected_completion", "kto_tag", "response_j", "response_k"),
)
# 1 or true means what happens anyway; anything else asks for something that is not done here.
_ROW_WEIGHTS = ("weight", "loss_weight", "sample_weight", "train", "trainable", "loss", "loss_scale", "loss_mask")
_MASKS = ("completion_mask", "assistant_masks", "train_on_inputs", "train_on_input", "train_detail")
_TEMPLATE = ("chat_template_kwargs", "chat_template")
# The same said by other names, of a row or of a turn: masked, is_trained, compute_loss, ignore ...
_MARK = re.compile(
    r"((is|do|should|no|not|use|has|compute|calc|calculate)_)*"
    r"(mask(s|ed)?|learn(ed|able)?|train(ed|able)?(_on)?(_turn)?|loss(es)?|loss_(mask|weight|scale)s?|weights?"
    r"|supervised?|ignored?|skip(ped)?|excluded?|turn_(mask|weight)s?)(_loss)?",
    re.IGNORECASE,
)
# Whether an answer is right. True says what is assumed of every answer.
_JUDGEMENTS = (
    "is_correct",
    "is_good",
    "accepted",
    "is_accepted",
    "is_preferred",
    "preferred",
    "desirable",
    "thumbs_up",
)
_COMPARISONS = ("ranking", "rankings", "preference", "preferences", "ranked_responses")
_ANSWER_LISTS = ("responses", "completions", "outputs", "answers", "candidates", "generations")
_TRUTHS = (True, False, 0, 1, "true", "false", "True", "False", "0", "1")

SFT_ONLY = "fine-tuning learns every answer as right; keep the good answers alone, and remove that key"
# What a column called split says of rows that nobody means to learn.
_NOT_TRAINING = {"test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "held_out", "holdout"}
TEXT_ONLY = "this trains on text: remove these rows, or use a trainer for vision and audio models"
IGNORE = "or say that it means nothing here: --ignore-columns {key}"

# What vision and audio trainers put where a picture or a sound goes (LLaMA-Factory's data/README.md, ms-swift's
# Custom-dataset.md, Qwen-VL, Gemma 3, Llama 3.2; read 2026-12-01).
_PLACEHOLDER = re.compile(
    r"<\|(?:image|image_pad|vision_start|video_pad|audio|audio_bos|AUDIO)\|>|<start_of_image>|<image_soft_token>"
    r"|<(?P<bare>image|video|audio)>|<img>[^<>\s]{4,}</img>"
    # A whole file written out, but for one in markup or a style sheet that the words are about.
    r"|(?<![\"'])(?<!url\()data:(?:image|video|audio)/[\w.+-]+;base64,[A-Za-z0-9+/]{200}"
)


def refuse_other_training(row: dict[str, Any], row_format: str) -> None:
    """Raise RowProblem for the first key of `row` that asks for a training this is not. `row` has no null values."""
    _refuse_preference(row, row_format)
    _refuse_ambiguity(row, row_format)
    for key, value in row.items():
        if other_names.is_media(key, value):
            raise RowProblem(f"has '{key}': it belongs to a picture, video or sound, and only text is trained on",
                             f"{TEXT_ONLY}; {IGNORE.format(key=key)}")  # fmt: skip
    for key in _ROW_WEIGHTS:
        if key in row and not is_one(row[key]):
            raise RowProblem(
                f"has '{key}' {row[key]!r:.40} beside the whole row; every row counts alike here",
                f"remove rows that are not to be learned, or weigh sources (data.sources); {IGNORE.format(key=key)}",
            )
    if str(row.get("split", "")).strip().lower() in _NOT_TRAINING:
        raise RowProblem(
            f"has 'split' {row['split']!r:.40}: a row that is not for training",
            f"take such rows out; {IGNORE.format(key='split')}",
        )
    for key in row:
        if key not in (*_ROW_WEIGHTS, *_MASKS) and is_unknown_mark(key, row[key]):
            raise RowProblem(
                f"has '{key}' {row[key]!r:.40}, which looks like a mark of what is learned and is not read here",
                f"mark turns with weight 0 or 1 instead; {IGNORE.format(key=key)}",
            )
    for key in (*_MASKS, *_TEMPLATE):
        if row.get(key) not in (None, "", [], {}, False):
            raise RowProblem(
                f"has '{key}', which changes what is learned elsewhere and is not read here",
                f"remove it, and see what is learned with: data FILE --model DIR; {IGNORE.format(key=key)}",
            )
    if row_format in USED:
        unused = [key for key in row if key not in _used(row, row_format)]
        other_names.refuse(row, unused, row_format, IGNORE)


def _refuse_preference(row: dict[str, Any], row_format: str) -> None:
    for key in _PREFERENCE:
        if row.get(key) not in (None, "", []):
            raise RowProblem(f"has '{key}': a pair of a better and a worse answer is preference data (DPO, KTO)",
                             f"{SFT_ONLY}; {IGNORE.format(key=key)}")  # fmt: skip
    for key in _JUDGEMENTS:
        is_no = row.get(key) is False or row.get(key) in ("false", "False")  # as a table without types holds it
        if is_no and row_format != "text":
            raise RowProblem(f"has '{key}' False beside an answer: a judgement of it is preference data (KTO)",
                             f"{SFT_ONLY}; {IGNORE.format(key=key)}")  # fmt: skip
    for key in _COMPARISONS:
        if row.get(key) not in (None, "", []) and row_format != "text":
            raise RowProblem(f"has '{key}': answers compared with each other are preference data (DPO, reward models)",
                             f"{SFT_ONLY}; {IGNORE.format(key=key)}")  # fmt: skip
    # IMDB and the like have text and a class: nobody's judgement of an answer.
    if row_format not in USED or row_format == "text" or "label" not in row:
        return
    if isinstance(row["label"], bool | int | float | str) and row["label"] in _TRUTHS:
        raise RowProblem(
            f"has 'label' {row['label']!r} beside an answer: a judgement of it is preference data (KTO)",
            f"{SFT_ONLY}; {IGNORE.format(key='label')}",
        )


def _refuse_ambiguity(row: dict[str, Any], row_format: str) -> None:
    """Two keys of which one would be learned and the other left out, where they differ."""
    if row_format != "alpaca":
        return
    for used, other in (("output", "response"), ("input", "context")):
        if row.get(used) and row.get(other) and row[used] != row[other]:
            raise RowProblem(f"has both '{used}' and '{other}', and they differ",
                             f"say which counts: --ignore-columns {other}, or --ignore-columns {used}")  # fmt: skip


def refuse_several_answers(row: dict[str, Any], key: str) -> None:
    """Raise RowProblem when `key` holds a list of answers, of which nobody says which is right."""
    value = row.get(key)
    if isinstance(value, list) and len(value) > 1 and all(isinstance(part, str) for part in value):
        raise RowProblem(
            f"has a '{key}' that is not text but list: {len(value)} answers to one question are preference data"
            " (reward models, DPO) or samples",
            "fine-tuning learns every answer as right: keep the right one, or make a row of each that is",
        )


def refuse_answer_lists(row: dict[str, Any]) -> None:
    """Raise RowProblem for the first key with several answers of a row that has no known format."""
    for key in _ANSWER_LISTS:
        refuse_several_answers(row, key)


def is_unknown_mark(key: str, value: Any) -> bool:
    """Whether a key that is not read says which answers are learned: its name does, and its value is no text."""
    values = value if isinstance(value, list) else [value]
    is_flag = bool(values) and all(isinstance(part, bool | int | float) or part in _TRUTHS for part in values)
    return is_flag and isinstance(key, str) and _MARK.fullmatch(key) is not None


def is_one(value: Any) -> bool:
    """Whether `value` is a weight of 1, or true."""
    return isinstance(value, int | float) and value == 1


def refuse_placeholders(text: str, where: str) -> None:
    """Raise RowProblem when `text` of a question holds a place for a picture, a video or a sound.

    <image> in the middle of words, or with its closing tag, is taken for a word or for markup.
    """
    for match in _PLACEHOLDER.finditer(text):
        bare = match.group("bare")
        if bare and (f"</{bare}>" in text or not _stands_alone(text, match.start(), match.end())):
            continue
        raise RowProblem(f"has {where} with {match.group()[:40]!r}, a place for a picture, video or sound; only text is"
                         " trained on", TEXT_ONLY)  # fmt: skip


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether what stands there begins or ends the text or a line of it; other placeholders may stand between."""
    before, after = text[:start].rstrip(" \t>").rpartition("\n")[2], text[end:].partition("\n")[0].strip(" \t")
    return not before or before.endswith(("<image", "<video", "<audio")) or not after


def without(row: dict[str, Any], ignored: frozenset[str]) -> dict[str, Any]:
    """`row` without the keys that mean nothing here; "messages[].id" takes the key out of every turn."""
    kept = {key: value for key, value in row.items() if key not in ignored}
    for name in ("messages", "conversations"):
        gone = {key.removeprefix(f"{name}[].") for key in ignored if key.startswith(f"{name}[].")}
        if gone and isinstance(kept.get(name), list):
            kept[name] = [
                {key: value for key, value in turn.items() if key not in gone} if isinstance(turn, dict) else turn
                for turn in kept[name]
            ]
    return kept


def unused_keys(row: dict[str, Any], row_format: str) -> list[str]:
    """Keys of `row`, and of its turns ("messages[].id"), that were not looked at."""
    used = _used(row, row_format)
    found = [key for key in row if key not in used]
    turns = row.get("messages", row.get("conversations"))
    if row_format in ("messages", "sharegpt") and isinstance(turns, list):
        others = dict.fromkeys(key for turn in turns if isinstance(turn, dict) for key in turn if key not in TURN_KEYS)
        found += [f"{'messages' if 'messages' in row else 'conversations'}[].{key}" for key in others]
    return found


def _used(row: dict[str, Any], row_format: str) -> tuple[str, ...]:
    if row_format == "messages":
        return ("messages" if "messages" in row else "conversations", *BESIDE)
    if row_format == "alpaca":
        extra = ("input",) if row.get("input") or "context" not in row else ("context",)
        return ("instruction", *extra, "output" if "output" in row else "response", *BESIDE)
    if row_format == "text":
        return ("text",)
    return (*USED[row_format], *BESIDE)


# Keys of a turn that are read, or that chat templates read.
TURN_KEYS = frozenset(
    [
        *("role", "content", "from", "value", "human", "assistant", "name"),
        *("tool_calls", "tool_call_id", "function_call", "tool_name"),
        *("reasoning_content", "reasoning", "thinking"),
        *("weight", "train", "loss", "loss_weight", "loss_scale", "trainable", "loss_mask", "step_loss_mask"),
    ]
)
