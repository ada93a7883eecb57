"""Plain sentences about a plan: why this one, and what a person should know before training."""

from __future__ import annotations

from ..estimates import disk
from ..estimates.memory import CUDA_CONTEXT_GIB, fsdp2_keeps_gathered
from ..estimates.speed import float8_share, launches_decide
from ..estimates.survival import WANTED_SHARE
from ..models import source
from ..settings.parameters import Predicted
from ..settings.recipes import is_nvidia, keeping_of
from ..settings.setting import OFF, UNSLOTH, Setting
from ..weights.expected import Expected
from . import amount, default_batch, duration, hosts, kind_words, row_joining, streaming
from .defaults import defaults_for
from .request import Request
from .search import Candidate, Outcome

NAME_IT = "--model-name OWNER/MODEL or the folder that holds the weights"
# Of the fall of the held-out loss, against float32 weights (evidence bfloat16-storage-gives-up).
COPY_GIVES_UP = (
    "Its bfloat16 copy alone held 18% less of what a pretrained model learned, once; the master is kept beside it, and"
    " export --dtype float32 writes it."
)
FEW_ROWS, LARGE_MODEL, MANY_PASSES = 1000, 10**9, 10
# A rate this many times the default is no full fine-tuning rate (a judgement), but for models as small as this.
HIGH_RATE, TINY_MODEL = 4, 50 * 10**6
# Less than this of one pass leaves rows unlearned that somebody meant to learn.
NEARLY_A_PASS = 0.95
# The share of a run from which on the assumed speed of its disk is worth a word (a judgement).
NOTABLE_SAVING = 0.25
# Row formats that go through a chat template.
CONVERSATIONS = ("messages", "sharegpt", "alpaca")
_WHY_OFFLOAD = (
    "{what} in pinned host memory between steps: {pinned:.1f} GiB there{each} that the GPU does not have to hold."
)
# Unsloth's template for the instruction-tuned models of a family, by a part of the name; for others chatml will do.
TEMPLATES = (
    ("llama-3.1", "llama-3.1"), ("llama-3.2", "llama-3.2"), ("llama-3.3", "llama-3.3"), ("llama-3-", "llama-3"),
    ("qwen2.5", "qwen-2.5"), ("qwen3", "qwen-3"), ("gemma-2-", "gemma2"), ("gemma-3-", "gemma-3"),
    ("mistral", "mistral"), ("phi-4", "phi-4"),
)  # fmt: skip


HOST_DECIDES = "Host memory decides"


def why(request: Request, outcome: Outcome, best: Candidate) -> list[str]:
    """The reasons for the choice, the deciding one first."""
    fitting = sum(candidate.fits for candidate in outcome.candidates)
    rate, setting = best.tokens_per_second, best.setting
    where = "the host" if request.hardware.is_cpu else "each GPU"
    sentences = [
        f"{'Least memory' if request.prefer == 'memory' else 'Fastest'} of {fitting} settings that fit, out of"
        f" {len(outcome.candidates)} that keep '{request.exactness}': {rate:,.0f} tokens/s expected.",
        f"The peak is {best.memory.peak:.1f} GiB of {request.hardware.vram_gib:.1f} on {where}, at the moment"
        f" '{best.memory.moment}'; {best.margin:.1f} GiB is left free on purpose{_margin_reason(request)}.",
        *_padding_reason(request, outcome, best),
        _exactness_reason(best),
        _checkpointing_reason(request, outcome, best),
        *_host_memory_reason(request, outcome, best),
        *_float8_reason(request, best),
    ]
    if setting.state_offload:
        what = "Optimizer state and gradients stay" if setting.gradient_offload else "Optimizer state stays"
        each = " for each GPU" if setting.gpus > 1 else ""
        sentences.append(_WHY_OFFLOAD.format(what=what, pinned=best.memory.pinned, each=each))
    if setting.gradient_offload:
        sentences.append(
            "Gradients leave the GPU as soon as the backward has made them and come back a chunk at a time for the"
            " optimizer step: the GPU never holds them all."
        )
    sentences += streaming.why(request, best)
    if best.memory.paged:
        sentences.append(
            f"{best.memory.paged:.1f} GiB of optimizer state is managed memory, which the peak does not count: it lies"
            " on the GPU where there is room, and in host memory otherwise."
        )
    if setting.gpus > 1:
        sentences.append(_sharding_reason(request, best))
    obstacle = row_joining.obstacle_of(request.shape, setting.weights)
    if request.objective == "pretrain" and obstacle is not None:
        sentences.append(f"Texts are not packed: {obstacle}. Plans are compared by what they learn a second.")
    if row_joining.has_padding_to_save(request, setting):
        sentences.append(
            "Rows of a micro-batch are laid end to end instead of padded: the same loss, sooner. Packing whole"
            " sequences was faster still, but ended at a higher loss after as many steps (references/data.md)."
            if obstacle is None
            else f"Rows of a micro-batch are padded to its longest, not laid end to end: {obstacle}."
        )
    return sentences


def _padding_reason(request: Request, outcome: Outcome, best: Candidate) -> list[str]:
    """Why a plan that reads more tokens a second is not the fastest."""
    if request.prefer == "memory":
        return []
    more = [one for one in outcome.candidates if one.fits and one.tokens_per_second > best.tokens_per_second]
    if not more:
        return []
    other = max(more, key=lambda one: one.learned)
    return [
        f"Tokens/s count padding, and plans are compared without it: this one takes {best.learned:,.0f} tokens of the"
        f" rows a second, one of {other.tokens_per_second:,.0f} tokens/s only {other.learned:,.0f}."
    ]


def _margin_reason(request: Request) -> str:
    if request.hardware.is_cpu:
        return ""
    return f" ({CUDA_CONTEXT_GIB:g} for the CUDA context, the rest for what the estimate may be wrong by)"


def checkpointing(setting: Setting) -> str:
    """The mode, and of how many layers where it is not all of them."""
    if setting.checkpointed_layers is None:
        return setting.checkpointing
    return f"{setting.checkpointing}, {setting.checkpointed_layers} layers"


def _host_memory_reason(request: Request, outcome: Outcome, best: Candidate) -> list[str]:
    """That more memory on the host would have given a faster plan, with how much of it."""
    if request.hardware.is_cpu or request.prefer == "memory" or best.learned <= 0:
        return []
    barred = [one for one in outcome.candidates if one.missing <= 0 < one.host_missing and one.learned > best.learned]
    if not barred:
        return []
    other = min(barred, key=lambda one: one.host_missing)
    setting = f"{other.setting.weights} {other.setting.optimizer}"
    return [
        f"{HOST_DECIDES}: with {max(other.host_missing, 1):.0f} GiB more of it {setting}"
        f" would learn {other.learned / best.learned - 1:.0%} more tokens a second on this card."
    ]


def _float8_reason(request: Request, best: Candidate) -> list[str]:
    """What float8 products gain and leave as it is."""
    if not best.setting.float8:
        return []
    share = float8_share(request.shape)
    return [
        "Matrix products of the layers are float8, scaled by tensor; the head, small matrices, weights, optimizer state"
        f" and updates stay as with bfloat16. Their time is expected to be {share:.0%} of bfloat16's."
    ]


def _exactness_reason(best: Candidate) -> str:
    setting = best.setting
    reason = keeping_of(setting.weights, setting.optimizer, dict(setting.optimizer_args)).reason
    keeps_master = best.exactness == "exact" and setting.weights == "bfloat16" and setting.gpus * setting.nodes == 1
    return f"{reason} {COPY_GIVES_UP}" if keeps_master else reason


def _checkpointing_reason(request: Request, outcome: Outcome, best: Candidate) -> str:
    mode = best.setting.checkpointing
    if request.prefer == "memory" and mode != OFF:
        return "Activations are recomputed from checkpoints, which takes less memory than keeping them all."
    if mode == OFF:
        return "Activations are kept rather than recomputed: memory allows it, and recomputing costs a third more work."
    faster = [
        one
        for one in outcome.candidates
        if one.setting.checkpointing == OFF and one.speed.tokens_per_second > best.speed.tokens_per_second
    ]
    kept = "in host memory" if mode == UNSLOTH else "on the GPU"
    if best.setting.checkpointed_layers is not None:
        return (
            f"Activations of {best.setting.checkpointed_layers} of {request.shape.layers} layers are recomputed from"
            f" checkpoints {kept}, as few as fit; those of the others are kept."
        )
    if not faster:
        return f"Activations are recomputed from checkpoints {kept}: keeping them all leaves room for nothing faster."
    least = min(faster, key=lambda one: (one.missing, one.host_missing))
    if least.missing <= 0:
        return f"Activations are recomputed from checkpoints {kept}: keeping them all needs more host memory."
    return (
        f"Activations are recomputed from checkpoints {kept}: the nearest faster plan that keeps them all needs"
        f" {least.missing:.1f} GiB more."
    )


def _sharding_reason(request: Request, best: Candidate) -> str:
    text = f"Weights, gradients and optimizer state are sharded over {best.setting.gpus} GPUs by Unsloth's FSDP2"
    if fsdp2_keeps_gathered(request.shape, best.setting, request.hardware.vram_gib):
        return f"{text}; the model fits one GPU, so Unsloth keeps the weights gathered between forward and backward."
    return f"{text}; layers are gathered when they run."


def warnings(request: Request, best: Candidate, predicted: Predicted, basis: str, survival: Expected) -> list[str]:
    """What could surprise: lost updates, unmeasured hardware, approximated shapes, unknown host memory."""
    found = [*_survival_warning(best, survival), *request.hardware.notes]
    if request.hardware.is_cpu:
        found.append("There is no GPU: this trains on the CPU, which is slow; the speed is a rough guess.")
    elif request.hardware.gpu is None:
        found.append(
            f"Only the memory of the card is known, so the speed assumes an A100-like card: name it with --gpu"
            f" (what was planned for: {request.hardware.name})."
        )
    if basis == "extrapolated" and not request.hardware.is_cpu:
        found.append(
            "Memory and speed were fitted on NVIDIA H100 and H200 with Llama, Mistral, Qwen, Gemma 2 and SmolLM2 shapes"
            " of 0.1 to 8 billion weights; this plan carries them over to another card, model, length or way of"
            " training."
        )
    found += [*_range_warning(predicted), *_saving_warning(predicted)]
    if best.setting.float8 and float8_share(request.shape) >= 1:
        found.append(
            "Float8 products are expected to be slower here than bfloat16 ones: casting costs more than narrow matrices"
            " gain. Leave --compute out."
        )
    if launches_decide(request.shape, best.setting, request.hardware):
        found.append(
            "Launching kernels takes as long as the GPU's own work here, so the host's processor decides the speed:"
            " such a plan, measured twice, differed from itself by up to 29% (references/predicted-and-measured.md)."
        )
    if not is_nvidia(request.hardware):
        found.append(f"Unsloth runs on AMD GPUs too, but nothing was measured on {request.hardware.name}.")
    if request.hardware.name.startswith("GH200"):
        found.append("The host of a GH200 is an Arm machine: images and wheels for x86-64 do not run there.")
    if request.hardware.name.startswith("A100") and "SXM" in request.hardware.name:
        found.append("An A100 may also be a PCIe card, which is slower: name it in full if it is (A100 80GB PCIe).")
    found += _host_memory_warnings(request, best)
    if best.spilled:
        found.append(
            f"{best.spilled:.1f} GiB of paged state find no room on the GPU and move to and fro every step, at a speed"
            " that was never measured: a quarter of the host link's was assumed."
        )
    found += hosts.sentences(request, best)
    found += streaming.warnings(best)
    if request.one_price:
        found.append(
            f"{request.price_per_hour:g} USD an hour was taken for each of the cards: one price for several cards;"
            " --prices FILE gives each its own."
        )
    found += [
        *_name_warnings(request.model),
        *_rate_warnings(request),
        *default_batch.sentences(request),
        *_raw_text_warnings(request),
        *_template_warnings(request),
        *_amount_warnings(request, best.setting, predicted.steps),
    ]
    return [*found, *kind_words.of(request.shape), *_row_warnings(request)]


def row_reasons(request: Request) -> list[str]:
    """What becomes of rows that are longer than a row may be, where nothing of them is lost."""
    if request.data is None:
        return []
    from . import row_words

    return row_words.reasons(request)


def _row_warnings(request: Request) -> list[str]:
    if request.data is None and request.unread is None:
        return []
    from . import row_words  # only a plan with data pays for it

    return row_words.warnings(request)


def _host_memory_warnings(request: Request, best: Candidate) -> list[str]:
    if request.hardware.host_ram_gib is not None or not (best.setting.state_offload or best.memory.paged):
        return []
    needed = f"{best.memory.host:.0f} GiB of it"
    what = f"this plan needs {needed}" if best.setting.state_offload else f"up to {needed} is needed"
    return [f"Host memory was not given: {what} (say --host-ram-gib X)."]


def _range_warning(predicted: Predicted) -> list[str]:
    if predicted.hours_range is None:
        return []
    shortest, longest = (duration.in_words(hours) for hours in predicted.hours_range)
    if shortest == longest:
        return []
    costs = predicted.cost_usd_range
    cost = f", and cost {duration.span(f'{costs[0]:,.2f}', f'{costs[1]:,.2f}')} USD" if costs else ""
    return [f"The time is an estimate: the run may take {shortest} to {longest}{cost}."]


def _saving_warning(predicted: Predicted) -> list[str]:
    """That much of the time is a disk's, of which nothing is known; no range holds it."""
    saving = (predicted.hours_breakdown or {}).get("saving", 0.0)
    if saving <= NOTABLE_SAVING * predicted.hours:
        return []
    return [
        f"Saving is {saving / predicted.hours:.0%} of the time ({duration.in_words(saving)}), assumed at"
        f" {disk.WRITTEN_A_SECOND / 1e9:g} GB/s, as one rented disk wrote; another disk takes more or less"
        f"{', beyond that range' if predicted.hours_range else ''}."
    ]


def _survival_warning(best: Candidate, survival: Expected) -> list[str]:
    if survival.share >= WANTED_SHARE and best.exactness == "exact":
        return []
    if best.exactness == "stochastic":
        return [
            "Updates are unbiased but noisy: the weight change does not track float32 AdamW closely;"
            " --exactness exact does."
        ]
    return [
        f"Updates survive bf16 rounding at this learning rate in only about {survival.in_words}: the rest of the model"
        " does not train. --exactness exact mends it."
    ]


def _name_warnings(name: str) -> list[str]:
    reason = source.unloadable(name)
    return [f"Nothing can be trained from model.name as it is: {reason}; say {NAME_IT}."] if reason else []


def _rate_warnings(request: Request) -> list[str]:
    given = request.learning_rate
    return [] if given is None else rate_warnings(given, request.objective, request.shape.parameters)


def rate_warnings(given: float, objective: str, parameters: int) -> list[str]:
    """Rates carried over from LoRA; the smallest models do learn at such rates."""
    if parameters < TINY_MODEL:
        return []
    usual = defaults_for(objective, parameters).learning_rate
    if given <= HIGH_RATE * usual:
        return []
    return [
        f"The learning rate {given:g} is {given / usual:.0f} times the {usual:g} that full fine-tuning of a model of"
        " this size starts from; rates like 2e-4 are LoRA's (references/hyperparameters.md)."
    ]


def _raw_text_warnings(request: Request) -> list[str]:
    """Of a data set that was not read, the name alone says what it holds."""
    named = (request.unread or "").lower().endswith((".txt", ".md")) or request.reading.form == "text"
    is_text = named if request.data is None else request.data.form == "text"
    if request.objective != "sft" or not is_text:
        return []
    return ["The rows are raw text: --objective pretrain learns from all of it and packs it where rows may be joined."]


def _template_warnings(request: Request) -> list[str]:
    """Conversations need a chat template; where the tokenizer is not here, only the model's name can be judged."""
    form = request.reading.form or (request.data.form if request.data is not None else None)
    if request.data is not None and request.data.lacks_template:
        return [
            "The rows are conversations, and the tokenizer of this model has no chat template: init will refuse them."
            f" Name one: --chat-template {template_for(request.model)}."
        ]
    described = request.data is not None and request.data.described is not None and request.objective == "sft"
    if request.reading.chat_template is not None or not source.may_be_a_base_model(request.model):
        return []
    if form is None and described:
        return [
            f"If the rows are conversations: {request.model} may be a base model whose tokenizer has no chat template;"
            f" if so, name one: --chat-template {template_for(request.model)}."
        ]
    if form not in CONVERSATIONS:
        return []
    return [
        f"The rows are conversations, and {request.model} may be a base model whose tokenizer has no chat template: if"
        f" so, name one: --chat-template {template_for(request.model)}."
    ]


def template_for(model: str) -> str:
    """The chat template that suits `model` by its name, as Unsloth calls it."""
    return next((template for part, template in TEMPLATES if part in model.lower()), "chatml")


def _amount_warnings(request: Request, setting: Setting, steps: int) -> list[str]:
    """Few rows for so many weights, and many passes over them: advice, not a fault."""
    if request.data is None:
        return []
    found = []
    small = request.objective == "sft" and request.data.form != "text" and request.data.rows < FEW_ROWS
    if small and request.shape.parameters >= LARGE_MODEL:
        found.append(
            f"{request.data.rows:,} rows are few for training all {request.shape.parameters / 1e9:.1f} billion weights:"
            " for a small instruction set LoRA is usually the better answer (references/evidence.md,"
            f" fft-for-knowledge; where small ends, here at {FEW_ROWS:,}, is a judgement)."
        )
    return [*found, *passes_warnings(amount.passes(request, setting, steps))]


def passes_warnings(times: float | None) -> list[str]:
    """Many passes over the same rows."""
    if times is None or times <= MANY_PASSES:
        return []
    return [
        f"The run goes over the data about {times:,.0f} times: the recipes in references/hyperparameters.md take 1"
        f" to 5 passes, and beyond about {MANY_PASSES} a model tends to learn its rows by heart (a judgement)."
        " Train for less, or with more data."
    ]
