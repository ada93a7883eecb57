"""A folder's files: of a clone of a Hub data set by what its README says, of any other by their names."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from conftest import write_jsonl
from unsloth_fft.core.errors import BadInput
from unsloth_fft.data import scanning, sources
from unsloth_fft.data.json_objects import Fault

ROWS = [{"text": "a"}]


def make(folder: Path, *names: str, configs: str = "") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / name, ROWS)
    if configs:
        (folder / "README.md").write_text(f"---\nlicense: mit\nconfigs:\n{configs}tags:\n- a\n---\n# About\n")
    return folder


def names(files: sources.Files) -> tuple[list[str], list[str], list[str]]:
    return tuple([path.name for path in part] for part in (files.train, files.held_out, files.skipped))  # type: ignore


def test_splits_that_a_readme_declares_are_those_that_are_read(tmp_path):
    configs = (
        "- config_name: default\n  data_files:\n  - split: train\n    path: data/one-*\n"
        "  - split: test\n    path: data/two-*\n"
    )
    folder = make(
        tmp_path, "data/one-0.jsonl", "data/one-1.jsonl", "data/two-0.jsonl", "data/old.jsonl", configs=configs
    )
    train, held_out, skipped = names(sources.files_of(str(folder)))
    assert (train, held_out, skipped) == (["one-0.jsonl", "one-1.jsonl"], ["two-0.jsonl"], ["README.md", "old.jsonl"])


def test_of_several_subsets_or_splits_one_must_be_named(tmp_path):
    configs = (
        "- config_name: a\n  data_files: a/*.jsonl\n- config_name: b\n  data_files:\n"
        "  - split: train_sft\n    path:\n    - b/x.jsonl\n  - split: train_gen\n    path: b/y.jsonl\n"
    )
    folder = str(make(tmp_path, "a/1.jsonl", "b/x.jsonl", "b/y.jsonl", configs=configs))
    with pytest.raises(BadInput, match="the subsets a, b, and none is named") as caught:
        sources.files_of(folder)
    assert '"subset": "a"' in caught.value.hint
    assert names(sources.files_of(folder, "a"))[0] == ["1.jsonl"]
    with pytest.raises(BadInput, match="the parts train_sft, train_gen, and none is called train"):
        sources.files_of(folder, "b")
    assert names(sources.files_of(folder, "b", "train_gen"))[0] == ["y.jsonl"]


def test_without_a_readme_names_of_files_and_folders_say_what_is_held_out(tmp_path):
    folder = make(tmp_path, "rows.jsonl", "validation/part.jsonl", "dev.jsonl.gz", "test.jsonl", "contest/a.jsonl")
    (folder / "notes.txt").write_text("About.")
    (folder / "state.json").write_text("{}")
    train, held_out, skipped = names(sources.files_of(str(folder)))
    assert train == ["a.jsonl", "rows.jsonl"]
    assert sorted(held_out) == ["dev.jsonl.gz", "part.jsonl", "test.jsonl"]
    assert skipped == ["notes.txt", "state.json"]


def test_a_saved_folder_that_lacks_a_file_says_so(tmp_path):
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data-00000.arrow"}]}')
    (tmp_path / "other.arrow").write_bytes(b"")
    with pytest.raises(BadInput, match="was saved by datasets, and lacks data-00000.arrow"):
        sources.files_of(str(tmp_path))


@pytest.mark.parametrize("pattern", ["d/**.jsonl", ".", "../x.jsonl", "d/../../x.jsonl"])
def test_a_readme_that_names_files_elsewhere_or_by_no_pattern_is_refused(tmp_path, pattern):
    write_jsonl(tmp_path / "x.jsonl", ROWS)
    folder = make(
        tmp_path / "f",
        "d/a.jsonl",
        configs=f"- config_name: a\n  data_files:\n  - split: train\n    path: {pattern}\n",
    )
    with pytest.raises(BadInput, match="outside|pattern"):
        sources.files_of(str(folder))


@pytest.mark.parametrize(
    "state",
    ['{"_data_files": true}', "[" * 100_000, '{"_data_files": [{"filename": "../../x.arrow"}]}', "\ufeff", "[1]"],
)
def test_a_saved_folder_whose_state_is_damaged_or_leads_elsewhere_is_refused(tmp_path, state):
    folder = tmp_path / "f" / "g"
    folder.mkdir(parents=True)
    for path in (tmp_path / "x.arrow", folder / "data.arrow"):
        path.write_bytes(b"x")
    (folder / "state.json").write_text(state)
    with pytest.raises(BadInput):
        sources.files_of(str(folder))
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": true}')
    with pytest.raises(BadInput):
        sources.files_of(str(tmp_path / "dict"))


@pytest.mark.parametrize(
    "configs",
    [
        "- config_name: default # the one\n# all of it\n  data_files:\n  - split: train\n"
        "    path: data/one.jsonl # here\n",
        "- config_name: other\n  data_files: data/two.jsonl\n- config_name: main\n  data_files: data/one.jsonl\n"
        "  default: true\n",
        "- config_name: default\n  data_dir: data\n  data_files: one.jsonl\n",
    ],
    ids=["comments", "marked as default", "below a folder"],
)
def test_what_a_readme_says_otherwise_is_read_as_datasets_reads_it(tmp_path, configs):
    folder = make(tmp_path, "data/one.jsonl", "data/two.jsonl", configs=configs)
    assert names(sources.files_of(str(folder)))[0] == ["one.jsonl"]


def test_files_of_a_folder_that_a_readme_names_are_held_out_by_their_names(tmp_path):
    configs = "- config_name: default\n  data_dir: main\n"
    folder = make(tmp_path, "main/train.jsonl", "main/test.jsonl", "old/train.jsonl", configs=configs)
    train, held_out, skipped = names(sources.files_of(str(folder)))
    assert (train, held_out, skipped) == (["train.jsonl"], ["test.jsonl"], ["README.md", "train.jsonl"])


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ("- {config_name: default, data_files: data/one.jsonl}\n", "line of braces"),
        ("- config_name: default\n  data_files: data/gone-*\n", "declares data/gone-"),
        ("- config_name: default\n  data_dir: ../secret\n", "names a folder outside"),
    ],
)
def test_a_readme_that_cannot_be_followed_is_refused_and_not_passed_over(tmp_path, configs, words):
    folder = make(tmp_path / "clone", "data/one.jsonl", "data/two.jsonl", configs=configs)
    with pytest.raises(BadInput, match=words) as caught:
        sources.files_of(str(folder))
    assert "name the files themselves" in caught.value.hint


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.txt", "rows.csv", "rows.jsonl.gz"])
def test_a_pointer_of_git_lfs_is_no_data(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n")
    row = next(scanning.scan([tmp_path / name]))
    assert isinstance(row.value, Fault) and "Git LFS pointer" in row.value.message and "git lfs pull" in row.value.hint


def test_a_packed_file_that_is_not_named_so_says_so(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(gzip.compress(b'{"text": "a"}'))
    row = next(scanning.scan([tmp_path / "rows.jsonl"]))
    assert isinstance(row.value, Fault) and "packed by gzip" in row.value.message


def test_files_that_say_that_they_are_held_out_are(tmp_path):
    folder = make(tmp_path, "train.jsonl", "held_out.jsonl", "my-holdout.jsonl", "holding.jsonl")
    train, held_out, _ = names(sources.files_of(str(folder)))
    assert (sorted(train), sorted(held_out)) == (
        ["holding.jsonl", "train.jsonl"],
        ["held_out.jsonl", "my-holdout.jsonl"],
    )
