"""The model card and the files beside it: how the model was made, what was measured, and how to run it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import yaml_text
from ..reporting.explanations import BASES, VERDICTS
from ..settings.parameters import Parameters
from ..training.session import Session
from .stored import Stored


@dataclass(frozen=True)
class Facts:
    """What the card is made from; `ggufs` are file names, `template` is whether the tokenizer has a chat template."""

    name: str
    dtype: str
    parameters: Parameters
    session: Session
    audit: dict[str, Any]
    ggufs: Sequence[str]
    has_template: bool
    context: int
    stored: Stored


ASK = """
turns = [{"role": "user", "content": "What is full fine-tuning?"}]
prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=200)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""

GO_ON = """
prompt = tokenizer("Full fine-tuning is", return_tensors="pt")
text = model.generate(input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"], max_new_tokens=200)[0]
print(tokenizer.decode(text, skip_special_tokens=True))
"""


def model_card(facts: Facts) -> str:
    """README.md with the Hub's metadata in front."""
    parts = [
        _metadata(facts),
        f"# {facts.name}\n\n{_lead(facts)}",
        _section("Which weights moved", _moved(facts)),
        _section("How the loss fell", _loss(facts)),
        _section("How it was trained", _settings(facts)),
        _section("Planned and measured", _measured(facts)),
        _section("Run it", _commands(facts)),
        _section("Data", _data(facts)),
        _section("Made with", _versions(facts)),
    ]
    return "\n".join(parts)


def _metadata(facts: Facts) -> str:
    base = facts.parameters.model.name
    value: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if not os.path.exists(base):
        value["base_model"] = base
        value["base_model_relation"] = "finetune"
    value["tags"] = ["full-fine-tuning", "unsloth", *(["gguf"] if facts.ggufs else [])]
    return f"---\n{yaml_text.dump(value)}---\n"


def _lead(facts: Facts) -> str:
    base = Path(facts.parameters.model.name).name
    return (
        f"Full fine-tuning of `{base}`: every weight was trainable, none of it through an adapter. Weights are stored"
        f" as {facts.dtype}.\n"
    )


def _moved(facts: Facts) -> str:
    trained, stored = facts.audit, facts.stored
    shown = stored.audit or trained
    rows = "\n".join(
        f"| {name} | {group['elements']:,} | {group['changed']:,} | {group['changed_fraction']:.2%} |"
        for name, group in sorted(shown["groups"].items())
    )
    return (
        f"As trained: audit verdict **{trained['verdict']}**. {VERDICTS[trained['verdict']]} {trained['changed']:,} of"
        f" {trained['elements']:,} weights differ from the base model ({trained['changed_fraction']:.2%}).\n\n"
        f"{_in_these_files(stored)}\n\n| group | weights | moved | share |\n|---|---:|---:|---:|\n{rows}\n"
    )


def _in_these_files(stored: Stored) -> str:
    if stored.audit is None:
        return f"These files were not compared with the base model ({stored.not_audited}); the table is of the run."
    found = stored.audit
    return (
        f"In these files, stored as {stored.dtype}: {found['changed']:,} of {found['elements']:,} weights differ from"
        f" the base model ({found['changed_fraction']:.2%}); the table is of them."
    )


def _loss(facts: Facts) -> str:
    result, found = facts.session.result, facts.stored.held_out
    assert result is not None
    words = ""
    if result.eval_loss_before is not None and result.eval_loss_after is not None:
        words = (
            f"Held-out loss {result.eval_loss_before:.4f} before and {result.eval_loss_after:.4f} after, in nats a"
            f" token (lower is better), the mean over all tokens of {result.eval_rows:,} rows that were not trained"
            " on.\n\n"
        )
    if found is not None:
        rows = (
            f"the same {found.rows:,} rows" if found.rows == facts.stored.rows_of else f"{found.rows:,} of these rows"
        )
        words += (
            f"These files (stored as {facts.dtype}): {found.after:.4f} on {rows}, where the weights as trained have"
            f" {found.before:.4f}.\n\n"
        )
    if facts.stored.better_type is not None:
        words += f"{_first_up(facts.stored.advice or '')}.\n\n"
    return f"{words}![Loss over optimizer steps, training and held-out rows](loss.png)\n"


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _settings(facts: Facts) -> str:
    parameters = facts.parameters
    optimizer, batch, schedule = parameters.optimizer, parameters.batch, parameters.schedule
    length = f"{schedule.max_steps} steps" if schedule.max_steps else f"{schedule.num_train_epochs:g} epochs"
    offload = ", optimizer state in host memory" if optimizer.state_offload else ""
    offload += ", gradients too until the step" if parameters.memory.gradient_offload else ""
    offload += ", the layers' weights streamed from there" if parameters.memory.weight_offload else ""
    rows = {
        "precision": f"{parameters.precision.weights} weights, master {parameters.precision.master},"
        f" exactness {parameters.precision.exactness}",
        "optimizer": f"{optimizer.name}{offload}",
        "learning rate": f"{optimizer.learning_rate:g}, {schedule.lr_scheduler_type},"
        f" warm-up over {_warmup(schedule.warmup_steps)}",
        "batch": f"{batch.effective_batch_size} rows a step ({batch.per_device_train_batch_size} x"
        f" {batch.gradient_accumulation_steps} accumulation), at most {parameters.model.max_seq_length} tokens a row",
        "length": length,
        "gradient checkpointing": parameters.memory.gradient_checkpointing,
        "seed": str(schedule.seed),
    }
    return "| setting | value |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())


def _warmup(steps: float) -> str:
    """Below 1 it is a share of the steps, as Transformers reads it."""
    return f"{steps:.0%} of the steps" if steps < 1 else f"{steps:g} steps"


def _measured(facts: Facts) -> str:
    result, plan = facts.session.result, facts.parameters.plan
    assert result is not None
    peak = "not measured" if result.peak_gib is None else f"{result.peak_gib:.2f} GiB"
    planned = ("-", "-", "-")
    note = "The parameters carried no plan.\n"
    if plan is not None:
        predicted = plan.predicted
        peak_planned = predicted.host_ram_gib if plan.hardware.name == "cpu" else predicted.peak_vram_gib
        planned = (
            f"{peak_planned:.2f} GiB",
            f"{predicted.tokens_per_second:,.0f}",
            f"{predicted.hours * 3600:,.0f} s",
        )
        where = "a processor" if plan.hardware.name == "cpu" else f"{plan.hardware.gpus} x {plan.hardware.name}"
        note = f"Planned for {where}. The planned figures are {plan.basis}: {BASES[plan.basis]}.\n"
    return (
        "| figure | planned | measured |\n|---|---:|---:|\n"
        f"| peak memory | {planned[0]} | {peak} |\n"
        f"| tokens a second, mean of the whole run | {planned[1]} | {result.tokens_per_second:,.0f} |\n"
        f"| training time | {planned[2]} | {result.seconds:,.0f} s |\n\n{note}"
    )


def _commands(facts: Facts) -> str:
    served = "vllm serve . --max-model-len " + str(facts.context)
    lines = [
        "From inside this folder:\n",
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        f'model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")\n{_example(facts)}```\n',
        f"```bash\n{served}\n```\n",
    ]
    if facts.ggufs:
        lines.append(
            f"```bash\nllama-cli -m {facts.ggufs[0]} -c {facts.context}{' -cnv' if _chats(facts) else ''}\n"
            f"ollama create {ollama_name(facts.name)} -f Modelfile && ollama run {ollama_name(facts.name)}\n```\n"
        )
    return "\n".join(lines)


def _example(facts: Facts) -> str:
    return ASK if _chats(facts) else GO_ON


def _chats(facts: Facts) -> bool:
    """Whether the model was taught to answer; after pretraining, or on raw text, it goes on with what it is given."""
    return facts.has_template and not _learned_text(facts)


def _learned_text(facts: Facts) -> bool:
    return facts.session.data.format == "text" or facts.parameters.data.objective == "pretrain"


def _data(facts: Facts) -> str:
    result = facts.session.result
    assert result is not None
    data = facts.session.data
    digest = "" if data.sha256 is None else f" SHA-256 `{data.sha256}`."
    learned = _learned(facts)
    return (
        f"`{Path(data.path).name}` ({data.format}): {result.train_rows:,} rows trained on, {result.eval_rows:,} held"
        f" out; {learned} counted in the loss.{digest} The data themselves are not in this folder.\n"
    )


def _learned(facts: Facts) -> str:
    responses = facts.parameters.data.loss_on == "responses" and not _learned_text(facts)
    return "the assistant's words" if responses else "every token"


def _versions(facts: Facts) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(facts.session.versions.items())) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def ollama_name(name: str) -> str:
    """A name Ollama accepts: lower-case letters, digits, dot, dash."""
    return (
        "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name.lower()).strip("-.") or "fft"
    )


def modelfile(gguf: str, context: int, template: str | None, stop: Sequence[str]) -> str:
    """Ollama's Modelfile. Ollama's templates are Go's: `template` is one, or None to take the one in the GGUF."""
    lines = [f"FROM ./{gguf}", f"PARAMETER num_ctx {context}"]
    lines += [f'PARAMETER stop "{word}"' for word in stop]
    if template is not None:
        lines.append(f'TEMPLATE """{template}"""')
    return "\n".join(lines) + "\n"


def go_template(tokenizer: Any) -> str | None:
    """The chat template in Ollama's language, found by rendering marked turns; None when it is not of that shape.

    Only templates that wrap each turn in fixed words before and after it can be carried over. A conversation of three
    turns is rendered both ways and must come out equal, else None.
    """
    wraps = {}
    for role in ("system", "user", "assistant"):
        wrap = _wrap(tokenizer, role)
        if wrap is None:
            return None
        wraps[role] = wrap
    opening = _opening(tokenizer)
    if opening is None or any('"""' in text or "{{" in text for pair in wraps.values() for text in pair):
        return None
    (sb, se), (ub, ue), (ab, ae) = (wraps[role] for role in ("system", "user", "assistant"))
    # No trim marks: they would eat the line ends around each turn.
    return (
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        f'{{{{ if eq .Role "system" }}}}{sb}{{{{ .Content }}}}{se}'
        f'{{{{ else if eq .Role "user" }}}}{ub}{{{{ .Content }}}}{ue}'
        f'{{{{ else if eq .Role "assistant" }}}}{ab}{{{{ .Content }}}}{ae}{{{{ end }}}}'
        f'{{{{ if and $last (ne .Role "assistant") }}}}{opening}{{{{ end }}}}{{{{ end }}}}'
    )


def _render(tokenizer: Any, turns: list[dict[str, str]], opened: bool = False) -> str | None:
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened))
    except Exception:  # a Jinja template may raise anything, for example for a role it does not know
        return None


def _wrap(tokenizer: Any, role: str) -> tuple[str, str] | None:
    """The words before and after a turn of `role`, if they do not depend on what stands around it."""
    before = [{"role": "user", "content": "Q0"}, {"role": "assistant", "content": "A0"}]
    if role == "assistant":
        before = before[:1]
    if role == "system":
        before = []
    head = _render(tokenizer, before) if before else ""
    whole = _render(tokenizer, [*before, {"role": role, "content": "CONTENT-1"}])
    if head is None or whole is None or not whole.startswith(head) or whole.count("CONTENT-1") != 1:
        return None
    start, end = whole[len(head) :].split("CONTENT-1")
    return start, end


def _opening(tokenizer: Any) -> str | None:
    turns = [{"role": "user", "content": "Q0"}]
    closed, opened = _render(tokenizer, turns), _render(tokenizer, turns, opened=True)
    if closed is None or opened is None or not opened.startswith(closed):
        return None
    return opened[len(closed) :]
