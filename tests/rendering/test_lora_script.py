"""The script for an adapter: it learns what `train` learns, and whatever a name holds is a value in it and no code."""

from __future__ import annotations

import ast
import gzip
import json
import runpy

import pytest

from conftest import conversation_rows, write_jsonl
from data_helpers import CHATML, data_settings, prepared_rows, tokenizer_folder
from unsloth_fft.commands import tool
from unsloth_fft.rendering import lora_script

NAMES = (
    *("\U0001f600", 'a"b', "a'b", "a\\", "a\nimport os", "a\x00b", "a\x85import os", "a\u2028b", "a\udcffb", "{name}"),
    *("'''", "{{x}}", "\ufeffa", "a\x0cb"),
)
MARKED = CHATML.replace(
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}",
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message['content'] }}"
    "{% for call in message.tool_calls or [] %}{{ call.function|tojson }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_again_by_python(name: str) -> None:
    def imported(text: str) -> tuple[set[object], list[str]]:
        read = ast.parse(text.encode("utf-8"))
        values: set[object] = {node.value for node in ast.walk(read) if isinstance(node, ast.Constant)}
        return values, [node.names[0].name for node in ast.walk(read) if isinstance(node, ast.Import)]

    values, imports = imported(script(f"/m/{name}", f"/d/{name}.jsonl"))
    assert {f"/m/{name}", f"/d/{name}.jsonl"} <= values
    assert imports == imported(script("m", "d.jsonl"))[1]


def script(model: str, dataset: str) -> str:
    data = data_settings(dataset=dataset, format="messages")
    return lora_script.text(model=model, data=data, length=64, epochs=1.0, four_bit=False, file="f")


ASK, WRONG = {"role": "user", "content": "a"}, {"role": "assistant", "content": "WRONG"}
ANSWER, TOOL = {"role": "assistant", "content": "b"}, {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
ROWS = {
    "messages": {"messages": [ASK, {**WRONG, "weight": 0}, ASK, ANSWER], "system": "Be."},
    "calls": {
        "messages": [
            ASK,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "c"},
            ANSWER,
        ],
        "tools": [TOOL],
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "alpaca": {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]},
    "pair": {"prompt": "a b", "completion": " c"},
    "turns": {"prompt": [ASK, WRONG, ASK], "completion": [ANSWER]},
    "text": {"text": "a b c " * 150},
}


@pytest.mark.train
@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["turns are found", "the template marks them"])
def test_an_adapter_learns_the_tokens_that_train_learns(tmp_path, capsys, monkeypatch, template: str) -> None:
    """It learned every token of a row, users' words and headers too."""
    pytest.importorskip("unsloth")
    monkeypatch.chdir(tmp_path)
    model = tokenizer_folder(tmp_path / "model", template)
    for kind, row in ROWS.items():
        write_jsonl(tmp_path / "rows.jsonl", [row] * 3)
        assert tool.main(["lora", "--model", str(model), "--dataset", "rows.jsonl", "--seq-length", "400",
                          "--output", f"{kind}.py"]) == 0  # fmt: skip
        wanted, tokenizer = prepared_rows("rows.jsonl", model, tmp_path / "space", length=400, eval_fraction=0.0)
        capsys.readouterr()
        (tmp_path / kind).mkdir()
        found = runpy.run_path(f"{kind}.py")["learned_rows"](tokenizer, tmp_path / kind)
        assert found[:] == wanted.train[:]
        assert "⟦" in capsys.readouterr().err


@pytest.mark.train
def test_it_carries_all_that_reading_rows_takes(tmp_path, workers) -> None:
    """Where no other copy of the package is within reach; a packed file, as one more module is read for it."""
    model = tokenizer_folder(tmp_path / "model", CHATML)
    rows = "".join(json.dumps(ROWS["messages"]) + "\n" for _ in range(3))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "lora.py").write_text(script("m", "rows.jsonl.gz"), encoding="utf-8")
    (tmp_path / "read.py").write_text(READ_ROWS, encoding="utf-8")
    learned = workers.run_script(tmp_path / "read.py", model)
    assert learned.returncode == 0, learned.stderr
    assert learned.stdout.split()[-2:] == ["2", "2"], "rows (one is held out), and those that learn no wrong turn"


READ_ROWS = """
import runpy, sys
from transformers import AutoTokenizer

main, learned_rows = (runpy.run_path("lora.py")[name] for name in ("main", "learned_rows"))

def train():
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    rows = learned_rows(tokenizer, ".")
    wrong = tokenizer("WRONG", add_special_tokens=False).input_ids[0]
    print(len(rows), sum(wrong not in row["labels"] for row in rows))
    return 0

main.__globals__["train"] = train
sys.exit(main())
"""


def test_the_script_says_what_is_learned_in_its_first_lines(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for row, learned in (
        (conversation_rows(1)[0], "the answers and the tokens that end them"),
        ({"text": "a"}, "all tokens"),
    ):
        write_jsonl(tmp_path / "rows.jsonl", [row])
        assert tool.main(["lora", "--model", "m", "--dataset", "rows.jsonl", "--chat-template", "chatml"]) == 0
        said = capsys.readouterr().out
        assert f"# Learned: {learned}, as" in said[:1500] and "templates.named(tokenizer, 'chatml')" in said


def test_a_row_that_train_would_refuse_is_refused_at_once(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "a", "answer": "b"}])
    lora = ["lora", "--model", "m", "--dataset", "rows.jsonl"]
    assert tool.main(lora) == 2
    assert "--columns prompt=question completion=answer" in capsys.readouterr().err
    assert tool.main([*lora, "--columns", "prompt=question", "completion=answer"]) == 0
    assert "'columns': {'prompt': 'question', 'completion': 'answer'}" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--seq-length", "--epochs"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e400", "9" * 400, "\u00b2"])
def test_numbers_that_nobody_means_are_refused(tmp_path, monkeypatch, capsys, flag: str, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(2))
    assert tool.main(["lora", "--model", "m", "--dataset", "rows.jsonl", flag, value]) == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["~nobody-of-this-name/x", "a\x00b", "n" * 5000, "/dev/zero", "."])
def test_a_data_set_that_is_none_is_two_lines(tmp_path, monkeypatch, capsys, dataset: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert tool.main(["lora", "--model", "m", "--dataset", dataset]) == 2
    assert [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "hint"]


def test_its_last_lines_say_how_to_read_it_and_what_the_weights_take(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(1))
    lora = ["lora", "--dataset", "rows.jsonl", "--output", "lora.py", "--allow-cut-ends"]
    assert tool.main([*lora, "--model", "meta-llama/Llama-3.1-8B"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "alone take 15.0 GiB of the card: add --load-in-4bit where" in said
    lines = (tmp_path / "lora.py").read_text(encoding="utf-8").split("\n")
    above = int(said.split("head -n ")[1].split()[0])
    assert "def train():" in lines[:above] and lines[above] == 'PACKAGE = """'
    assert "    'allow_cut_ends': True," in lines[:above]
    last = int(said.split(" to ")[1].split()[0].replace(",", ""))
    assert lines[last - 1] == '"""' and "sys.exit(main())" in lines[last] + lines[last + 2]
    assert tool.main([*lora, "--model", "m", "--load-in-4bit"]) == 0
    assert "16-bit" not in capsys.readouterr().err
