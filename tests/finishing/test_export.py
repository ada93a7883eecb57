"""Export: the folder loads elsewhere with the same logits, says how it came about, and is whole or absent."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from conftest import assert_clear_error
from render_helpers import consumer, program, trained_session
from unsloth_fft.core import staging_folders
from unsloth_fft.core.errors import BadInput, MissingHere, TrainingFailed
from unsloth_fft.finishing import evaluate, export, gguf, model_card, stored
from unsloth_fft.training import held_out, master, session

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def trained(workers, tmp_path_factory, tiny_model) -> Path:
    return trained_session(workers, tmp_path_factory.mktemp("trained"), tiny_model)


@pytest.fixture(scope="module")
def exported(workers, trained, tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("exported") / "my-model"
    finished = workers.run("export", trained, "--to", to, "--json")
    assert finished.returncode == 0, finished.stderr
    value = json.loads(finished.stdout)
    assert value["dtype"] == "float32" and value["pushed_to"] is None and value["gguf"] == []
    return to


def logits_of(folder: Path, dtype: str = "auto"):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.no_grad():
        return model(**tokenizer("What is three plus one?", return_tensors="pt")).logits.float()


def test_plain_transformers_loads_it_with_identical_logits(trained, exported):
    import torch

    assert torch.equal(logits_of(trained / "model"), logits_of(exported))


def test_another_dtype_is_the_rounded_model(trained, tmp_path):
    import torch
    from safetensors.torch import load_file

    to = tmp_path / "half"
    export.export(trained, to, dtype="bfloat16", push_to=None)
    kept, original = load_file(to / "model.safetensors"), load_file(trained / "model" / "model.safetensors")
    assert all(torch.equal(tensor, original[name].to(torch.bfloat16)) for name, tensor in kept.items())
    assert json.loads((to / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_files_are_audited_and_evaluated_as_they_are_stored(workers, trained, exported, tmp_path):
    """Not what was trained: bfloat16 puts many weights back where they were."""
    to = tmp_path / "half"
    told = json.loads(workers.run("export", trained, "--to", to, "--dtype", "bfloat16", "--json").stdout)
    audit, of_run = json.loads((to / "audit.json").read_text()), json.loads((trained / "audit.json").read_text())
    assert told["audit"]["changed_fraction"] == audit["changed_fraction"] < of_run["changed_fraction"]
    result = json.loads((trained / "session.json").read_text())["result"]
    assert told["held_out"]["loss_trained"] == pytest.approx(result["eval_loss_after"], abs=1e-4)
    assert told["held_out"]["loss_exported"] == pytest.approx(result["eval_loss_bfloat16"], abs=1e-4)
    assert told["held_out"]["rows"] == told["held_out"]["rows_in_all"] == result["eval_rows"]
    card = (to / "README.md").read_text()
    for figure in (f"{of_run['changed_fraction']:.2%}", f"{audit['changed_fraction']:.2%}"):
        assert figure in card
    for loss in (told["held_out"]["loss_trained"], told["held_out"]["loss_exported"]):
        assert f"{loss:.4f}" in card
    whole = json.loads((exported / "audit.json").read_text())
    assert whole["changed_fraction"] == of_run["changed_fraction"], "float32 files hold all of it"


def test_a_wider_type_than_what_was_kept_is_said_and_the_files_stop_where_the_template_ends(
    trained, tmp_path, monkeypatch, capsys
):
    """adamw_flash without its correction/: float32 files would look like the master that they are not."""
    copy = shutil.copytree(trained, tmp_path / "session")
    monkeypatch.setattr(master, "has_corrections", lambda parameters: True)
    for template in (copy / "model").glob("chat_template.jinja"):
        template.write_text(template.read_text().replace("<|end|>", "<|pad|>"))
    export.export(copy, tmp_path / "narrow", dtype="bfloat16", push_to=None)
    assert "correction/" not in capsys.readouterr().err
    ends = json.loads((tmp_path / "narrow" / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [2, 0], "<|end|> of the tokenizer, and what the template ends a turn with"
    export.export(copy, tmp_path / "wide", dtype="float32", push_to=None)
    assert "has no correction/" in " ".join(capsys.readouterr().err.split())


def changed_copy(trained: Path, folder: Path, change) -> Path:
    """A copy of the session whose weights went through `change`."""
    from safetensors.torch import load_file, save_file

    session_folder = shutil.copytree(trained, folder / "session")
    file = session_folder / "model" / "model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return session_folder


def test_a_weight_beyond_float16_is_refused_and_nothing_is_left(trained, tmp_path):
    copy = changed_copy(trained, tmp_path, lambda name, tensor: tensor * (3e6 if name == "model.norm.weight" else 1))
    with pytest.raises(BadInput, match="model.norm.weight"):
        export.export(copy, tmp_path / "half", dtype="float16", push_to=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session"]


def test_the_float32_export_of_an_adamw_flash_run_is_its_master(trained, tmp_path):
    """As such a run leaves it: bfloat16 weights, and beside them what float32 has more."""
    import torch
    from safetensors.torch import load_file

    copy = changed_copy(trained, tmp_path, lambda name, tensor: tensor.to(torch.bfloat16))
    weights = load_file(copy / "model" / "model.safetensors")
    torch.manual_seed(1)
    kept = {name: torch.randint(-32767, 32767, one.shape, dtype=torch.int16) for name, one in weights.items()}
    master.save(kept, copy / "correction")
    done = export.export(copy, tmp_path / "wide", dtype="float32", push_to=None)
    written = load_file(tmp_path / "wide" / "model.safetensors")
    assert all(torch.equal(written[name], master.joined(weights[name], kept[name])) for name in weights)
    assert done.stored.held_out.before == pytest.approx(done.stored.held_out.after, abs=1e-6)
    narrow = export.export(copy, tmp_path / "narrow", dtype="bfloat16", push_to=None)
    assert all(
        torch.equal(one, weights[name]) for name, one in load_file(tmp_path / "narrow/model.safetensors").items()
    )
    assert narrow.stored.held_out.before == pytest.approx(done.stored.held_out.before, abs=1e-6)
    assert narrow.stored.held_out.after != narrow.stored.held_out.before


@pytest.mark.parametrize(("largest", "better"), [(1.0, "float16"), (3e6, "float32")])
def test_the_type_that_keeps_the_gain_is_proposed_where_the_stored_one_gives_it_up(
    trained, tmp_path, monkeypatch, largest, better
):
    copy = changed_copy(trained, tmp_path, lambda name, one: one * (largest if name == "model.norm.weight" else 1))
    folder, _, parameters = session.load(copy)
    rows = evaluate.held_out_rows(folder, parameters, tmp_path)
    measured = held_out.row_losses(evaluate.loaded(str(folder.model)), rows)
    worse = [held_out.RowLoss(row.nats + 0.1 * row.tokens, row.tokens) for row in measured]
    monkeypatch.setattr(stored, "_losses_of", lambda *_: worse)
    found, proposed = stored._compared(folder, folder.model, "bfloat16", rows, tmp_path)
    assert proposed == better and found.after - found.before == pytest.approx(0.1, abs=1e-4)
    told = stored.Stored("bfloat16", None, "", found, len(rows), proposed)
    assert f"--dtype {better} keeps it" in told.advice and "gives up 0.1000" in told.advice


def test_the_folder_is_complete(exported):
    names = {path.name for path in exported.iterdir()}
    assert {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "audit.json", "loss.png",
    } <= names  # fmt: skip
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


def test_whoever_may_read_the_settings_may_read_the_weights(trained, exported):
    for folder in (trained / "model", exported):
        assert len({path.stat().st_mode for path in folder.iterdir() if path.is_file()}) == 1


def test_the_card_tells_what_was_measured(trained, exported):
    text = (exported / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["library_name"] == "transformers" and "full-fine-tuning" in metadata["tags"]
    assert "base_model" not in metadata  # the base is a folder of this machine, not a repository
    audit = json.loads((trained / "audit.json").read_text())
    state = json.loads((trained / "session.json").read_text())
    for words in (
        f"**{audit['verdict']}**",
        f"{audit['changed']:,} of {audit['elements']:,}",
        f"{state['result']['eval_loss_before']:.4f}",
        f"{state['result']['eval_loss_after']:.4f}",
        f"{state['result']['tokens_per_second']:,.0f}",
        state["data"]["sha256"],
        "vllm serve",
        "0.002",
        f"unsloth {state['versions']['unsloth']}",
    ):
        assert words in text, words


def test_the_card_of_a_model_of_texts_completes_and_of_a_chat_model_asks(trained, exported):
    asked = (exported / "README.md").read_text()
    assert "apply_chat_template" in asked and "the assistant's words counted" in asked
    for changes in ({"format": "text"}, {"objective": "pretrain"}):
        text = model_card.model_card(facts_of(trained, **changes))
        assert 'tokenizer("Full fine-tuning is"' in text and "apply_chat_template" not in text
        assert " -cnv" not in text and "every token counted" in text


def facts_of(trained: Path, format: str = "messages", objective: str = "sft") -> model_card.Facts:
    """What the card of the session would be made from, had it learned such rows for such an objective."""
    _, state, parameters = session.load(trained)
    return model_card.Facts(
        name="m",
        dtype="float32",
        parameters=dataclasses.replace(parameters, data=dataclasses.replace(parameters.data, objective=objective)),
        session=state.changed(data=dataclasses.replace(state.data, format=format)),
        audit=json.loads((trained / "audit.json").read_text()),
        ggufs=["m.gguf"],
        has_template=True,
        context=128,
        stored=stored.Stored("float32", None, "no base here", None, 0, None),
    )


def test_the_completion_of_the_card_runs(exported, tmp_path):
    """The example of a card after pretraining, on a model with the same tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kinds = {"tokenizer": AutoTokenizer, "model": AutoModelForCausalLM}
    names = {name: kind.from_pretrained(exported) for name, kind in kinds.items()}
    exec(model_card.GO_ON.replace("200", "5"), names)
    assert len(names["text"]) > 5


def test_no_path_of_this_machine_leaves_with_it(trained, exported):
    for path in exported.rglob("*"):
        if path.suffix in (".md", ".json", ".jinja"):
            assert str(trained.parent) not in path.read_text(), path


def test_an_existing_folder_is_refused_and_then_replaced_when_asked(workers, trained, exported, tmp_path):
    to = tmp_path / "copy"
    shutil.copytree(exported, to)
    (to / "README.md").write_text("mine")
    assert_clear_error(workers.run("export", trained, "--to", to), 2, "already exists", "--overwrite")
    assert (to / "README.md").read_text() == "mine"
    export.export(trained, to, dtype=None, overwrite=True, push_to=None)
    assert "audit verdict" in (to / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_overwrite_never_takes_a_folder_that_is_no_model(workers, trained, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert_clear_error(workers.run("export", trained, "--to", tmp_path, "--overwrite"), 2, "not an exported model")
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("own", ["notes.txt", "deeper/notes.txt"])
def test_overwrite_never_takes_an_export_that_somebody_put_files_into(trained, exported, tmp_path, own):
    to = shutil.copytree(exported, tmp_path / "model")
    (to / own).parent.mkdir(exist_ok=True)
    (to / own).write_text("mine")
    with pytest.raises(BadInput, match="which no export wrote"):
        export.export(trained, to, dtype=None, overwrite=True, push_to=None)
    assert (to / own).read_text() == "mine"


def test_overwrite_never_takes_what_the_export_comes_from(trained, tiny_model, tmp_path):
    session_copy = shutil.copytree(trained, tmp_path / "s")
    for to in (session_copy / "model", session_copy, tmp_path, tiny_model, session_copy / "checkpoints" / "x"):
        before = sorted(tmp_path.rglob("*")), sorted(tiny_model.rglob("*"))
        with pytest.raises(BadInput, match="comes from|lies inside"):
            export.export(session_copy, to, dtype="float16", overwrite=True, push_to=None)
        assert (sorted(tmp_path.rglob("*")), sorted(tiny_model.rglob("*"))) == before


def test_a_refused_export_leaves_no_folder_behind(trained, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(MissingHere, match="HF_TOKEN"):
        export.export(trained, tmp_path / "a" / "b" / "out", dtype=None, push_to="me/model")
    assert not list(tmp_path.iterdir())


def test_a_damaged_audit_is_refused_before_anything_is_written(trained, tmp_path):
    session_copy = shutil.copytree(trained, tmp_path / "s")
    for text in ("{}", "{", "[]", "null"):
        (session_copy / "audit.json").write_text(text)
        with pytest.raises(BadInput, match="audit"):
            export.export(session_copy, tmp_path / "out", dtype=None, push_to=None)
    assert not (tmp_path / "out").exists()


def test_weights_that_a_narrow_type_cannot_hold_are_refused(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    session_copy = shutil.copytree(trained, tmp_path / "s")
    weights = load_file(session_copy / "model" / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = 70_000.0
    save_file(weights, session_copy / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match="65,504|65504"):
        export.export(session_copy, tmp_path / "out", dtype="float16", push_to=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_a_limit_on_the_size_of_files_is_told_of_and_leaves_nothing(workers, trained, tmp_path):
    ended = workers.run("export", trained, "--to", tmp_path / "out", file_bytes=60 * 1024)
    assert_clear_error(ended, 4, "no room on disk")
    assert not list(tmp_path.iterdir())


def staged(folder: Path) -> list[Path]:
    return list(folder.glob(".model.export.*"))


def wait_for_staging(folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not staged(folder) and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_killed_export_leaves_no_folder_and_the_next_one_clears_up(workers, trained, tmp_path):
    to = tmp_path / "model"
    process = workers.start("export", trained, "--to", to)
    wait_for_staging(tmp_path)
    process.send(signal.SIGKILL)
    process.wait()
    assert staged(tmp_path) and not to.exists()  # killed in the middle of writing
    export.export(trained, to, dtype=None, overwrite=True, push_to=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("after", [0.0, 0.1, 0.5])
def test_an_export_killed_while_replacing_leaves_the_old_folder_or_the_new_one(
    workers, trained, exported, tmp_path, after
):
    """Killed at some moment after it began to write; what stands there is a whole model with its own card."""
    to = tmp_path / "model"
    shutil.copytree(exported, to)
    (to / "README.md").write_text("the old one")
    process = workers.start("export", trained, "--to", to, "--overwrite")
    wait_for_staging(tmp_path)
    time.sleep(after)
    process.send(signal.SIGKILL)
    process.wait()
    assert {path.name for path in exported.iterdir()} == {path.name for path in to.iterdir()}
    card_text = (to / "README.md").read_text()
    whole = (exported / "README.md").read_text().splitlines()
    assert card_text == "the old one" or card_text.splitlines()[-1] == whole[-1]


@pytest.mark.parametrize("new_is_there", [False, True])
def test_a_kill_between_the_last_two_moves_loses_nothing(trained, exported, tmp_path, new_is_there):
    gone = subprocess.Popen(["true"])
    gone.wait()
    to, old = tmp_path / "model", tmp_path / f".model.export.{staging_folders.HOST}.{gone.pid}.abcd.old"
    shutil.copytree(exported, old)
    (old / "README.md").write_text("the old one")
    if new_is_there:
        shutil.copytree(exported, to)
    with pytest.raises(BadInput, match="already exists"):
        export.export(trained, to, dtype=None, push_to=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert ((to / "README.md").read_text() == "the old one") is not new_is_there


def test_the_commands_of_the_card_answer_a_question(workers, exported, tmp_path):
    """The card's own Python, run from inside the folder, where nothing of the bundle can be imported."""
    to = tmp_path / exported.name
    shutil.copytree(exported, to)
    (to / "card.py").write_text((exported / "README.md").read_text().split("```python\n")[1].split("```")[0])
    finished = workers.run_script(to / "card.py")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


def test_an_unfinished_session_has_nothing_to_export(workers, trained, tmp_path):
    copy = tmp_path / "session"
    shutil.copytree(trained, copy)
    (copy / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    state = json.loads((copy / "session.json").read_text())
    (copy / "session.json").write_text(json.dumps({**state, "state": "interrupted"}))
    assert_clear_error(workers.run("export", copy, "--to", tmp_path / "x"), 2, "interrupted", "--resume")
    assert not (tmp_path / "x").exists()


def test_pushing_needs_a_token_and_asks_nothing(workers, trained, tmp_path):
    finished = workers.run("export", trained, "--to", tmp_path / "x", "--push-to-hub", "me/model", env={"HF_TOKEN": ""})
    assert_clear_error(finished, 4, "HF_TOKEN")
    assert not (tmp_path / "x").exists()


# --- GGUF ---


def test_without_llama_cpp_the_error_says_how_to_get_it(workers, trained, tmp_path):
    bare = {"LLAMA_CPP_DIR": "", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    finished = workers.run("export", trained, "--to", tmp_path / "x", "--gguf", "Q8_0", env=bare)
    assert_clear_error(finished, 4, "convert_hf_to_gguf.py", "git clone", "llama.cpp")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["", "Q8_0,../x", "a b"])
def test_what_is_no_gguf_type_is_refused(text):
    with pytest.raises(BadInput):
        gguf.parse_types(text)


def test_gguf_types_are_read_in_any_case_once_each():
    assert gguf.parse_types("q8_0, F16,Q8_0") == ["Q8_0", "F16"]


def test_the_last_words_of_a_converter_that_writes_no_utf_8_are_told(tmp_path, monkeypatch):
    (tmp_path / "convert_hf_to_gguf.py").write_text("import os; os.write(2, b'no \\xff token'); raise SystemExit(1)\n")
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(TrainingFailed, match="no . token"):
        gguf.write(gguf.find_tools(["Q8_0"]), tmp_path, ["Q8_0"], "x")


@pytest.fixture(scope="module")
def llama_cpp_folder() -> Path:
    folder = Path(os.environ.get("LLAMA_CPP_DIR") or "/nonexistent")
    if not (folder / "convert_hf_to_gguf.py").is_file():
        pytest.skip("llama.cpp is not here: name its folder in LLAMA_CPP_DIR")
    return folder


@pytest.fixture(scope="module")
def with_gguf(workers, trained, llama_cpp_folder, tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("gguf") / "tiny"
    finished = workers.run("export", trained, "--to", to, "--gguf", "F32,Q8_0", "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["gguf"] == ["tiny-F32.gguf", "tiny-Q8_0.gguf"]
    return to


LLAMA = """
import json, sys
import numpy
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=128, logits_all=True, verbose=False)
tokens = json.loads(sys.argv[2])
mine = model.tokenize(sys.argv[3].encode(), add_bos=False, special=True)
model.eval(tokens)
print("RESULT" + json.dumps({"tokens": mine, "logits": numpy.array(model.scores[: len(tokens)]).tolist()}))
"""


@pytest.mark.parametrize(("kind", "nearness"), [("F32", 1e-3), ("Q8_0", 0.1)])
def test_llama_cpp_reads_the_gguf_with_the_same_tokens_and_logits(with_gguf, kind, nearness):
    import numpy
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(with_gguf)
    model = AutoModelForCausalLM.from_pretrained(with_gguf).eval()
    turns = [{"role": "user", "content": "What is 3 plus one? Isn't it 4,  really?"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    finished = subprocess.run(
        [consumer("llama_cpp"), "-c", LLAMA, str(with_gguf / f"tiny-{kind}.gguf"), json.dumps(ids), text],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    read = json.loads(finished.stdout.split("RESULT")[1].splitlines()[0])
    assert read["tokens"] == ids
    assert numpy.abs(numpy.array(read["logits"]) - expected).max() < nearness


def test_the_modelfile_names_the_gguf_and_the_end(with_gguf):
    text = (with_gguf / "Modelfile").read_text()
    assert "FROM ./tiny-F32.gguf" in text and 'PARAMETER stop "<|end|>"' in text and "TEMPLATE" in text


def test_a_template_that_depends_on_its_surroundings_is_not_carried_over():
    class Tokenizer:
        def apply_chat_template(self, turns, tokenize, add_generation_prompt):
            return "".join(f"{len(turns)}:{turn['content']}" for turn in turns)

    assert model_card.go_template(Tokenizer()) is None


GO = """package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type Message struct{ Role, Content string }

func main() {
	var given struct {
		Template string
		Messages []Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("chat").Parse(given.Template))
	if err := parsed.Execute(os.Stdout, given); err != nil {
		panic(err)
	}
}
"""


def test_gos_own_engine_renders_the_template_as_jinja_does(tiny_model, tmp_path):
    """Ollama's templates are Go's text/template; compared letter by letter, with and without a system turn."""
    from transformers import AutoTokenizer

    go = program("go")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Two  and\ntwo?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "And one?"},
    ]
    (tmp_path / "main.go").write_text(GO)
    env = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "HOME": str(tmp_path), "GOTOOLCHAIN": "local"}
    built = subprocess.run(
        [go, "build", "-o", "render", "main.go"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    for conversation in (turns, turns[1:], turns[1:2]):
        given = {
            "Template": model_card.go_template(tokenizer),
            "Messages": [{"Role": turn["role"], "Content": turn["content"]} for turn in conversation],
        }
        run = subprocess.run([tmp_path / "render"], input=json.dumps(given), capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout == tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def test_the_go_template_holds_the_words_around_each_turn(tiny_model):
    from transformers import AutoTokenizer

    template = model_card.go_template(AutoTokenizer.from_pretrained(tiny_model))
    assert template is not None
    for words in ("<|start|>user\n", "<|start|>assistant\n", "<|start|>system\n", "<|end|>\n"):
        assert words in template
