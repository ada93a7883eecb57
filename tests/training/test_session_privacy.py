"""What a run keeps to itself, and what it does not let in: metrics, secrets, and code of a stranger's model."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from conftest import assert_clear_error, minimal_parameters, write_parameters
from small_sessions import EVERY, completed, snapshot, state_of
from tools.measurements.kill_and_resume import steps_logged
from workers import Finished

pytestmark = pytest.mark.train


# --- trackers: off unless asked for, and then in the session's own folder ---

SECRETS = {
    "HF_TOKEN": "hf_planted0secret0aaaaaaaaaaaaaaaaaa",
    "WANDB_API_KEY": "planted1secret1" + "b" * 25,
    "AWS_SECRET_ACCESS_KEY": "planted2secret2cccc",
    "OPENAI_API_KEY": "sk-planted3secret3dddd",
}
NOWHERE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
# What each writes, under the session; wandb sends its files away unless its own variable says offline.
TRACKERS = {
    "tensorboard": "tensorboard/events.out.tfevents.*",
    "trackio": "trackio/*.db",
    "wandb": "wandb/offline-run-*",
}


def assert_no_secret(folder: Path, *ended: Finished) -> None:
    said = "".join(run.stdout + run.stderr for run in ended)
    for name, secret in SECRETS.items():
        assert secret not in said, name
        holders = [path for path, content in snapshot(folder).items() if secret.encode() in content]
        assert holders == [], name


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_installed_gets_the_metrics_in_the_session(tmp_path, workers, new_session, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed here")
    session = new_session(tmp_path, max_steps=2, report_to=name)
    done = workers.run("train", session, env={**SECRETS, **NOWHERE, "WANDB_MODE": "offline"})
    assert done.returncode == 0, done.stderr
    written = list(session.glob(TRACKERS[name]))
    assert written, sorted(snapshot(session))
    assert_no_secret(session, done)
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(session / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == steps_logged(session) == [1, 2]


def test_a_tracker_that_fails_ends_no_run_and_is_named_once(tmp_path, workers, new_session):
    pytest.importorskip("tensorboard")
    session = new_session(tmp_path, max_steps=2, report_to="tensorboard")
    (tmp_path / "file").touch()
    done = workers.run("train", session, env={"TENSORBOARD_LOGGING_DIR": str(tmp_path / "file" / "below")})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: tensorboard failed (") == 1 and "Traceback" not in done.stderr
    assert state_of(session)["state"] == "completed" and steps_logged(session) == [1, 2]


@pytest.mark.parametrize("event", ["on_log", "on_train_end"])
def test_a_tracker_that_fails_late_is_left_out_and_a_stop_goes_through_it(capsys, event):
    from types import SimpleNamespace

    from transformers.integrations import TensorBoardCallback

    from unsloth_fft.core.errors import Interrupted
    from unsloth_fft.training import trackers

    calls = []
    tracker = TensorBoardCallback()

    def fails(*_: object, error: Exception) -> None:
        calls.append(error)
        raise error

    setattr(tracker, event, fails)
    trackers.guard(SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[tracker])))
    with pytest.raises(Interrupted):
        getattr(tracker, event)(error=Interrupted("stopped", hint="resume"))
    for _ in range(2):
        getattr(tracker, event)(error=OSError("no network"))
    assert len(calls) == 2 and capsys.readouterr().err.count("tensorboard failed (OSError: no network)") == 1


def test_a_tracker_that_is_not_installed_stops_before_anything_is_loaded(tmp_path, workers, home):
    absent = [name for name in TRACKERS if importlib.util.find_spec(name) is None]
    if not absent:
        pytest.skip("every tracker is installed here")
    schedule = {**EVERY, "report_to": absent[0]}
    value = minimal_parameters(home / "tiny", home / "rows.jsonl", schedule=schedule)
    params = write_parameters(tmp_path / "p.json", value)
    refused = workers.run("init", "--params", params, "--session", tmp_path / "s")
    assert_clear_error(refused, 4, f"not installed here: {absent[0]}", f"pip install {absent[0]}")
    assert not (tmp_path / "s").exists()


def test_no_tracker_writes_anything_unasked(finished):
    assert not [path for name in TRACKERS for path in finished.glob(f"{name}*")]


# --- strangers' models, and secrets ---


def test_secrets_of_the_environment_are_in_no_file_and_no_output(tmp_path, workers, new_session):
    session = new_session(tmp_path, max_steps=2, save_steps=1)
    runs = [workers.run("train", session, "--json", env=SECRETS), workers.run("status", session, "--json", env=SECRETS)]
    runs.append(workers.run("train", session, "--resume", env={**SECRETS, "UNSLOTH_FFT_DEBUG": "1"}))
    assert [run.returncode for run in runs] == [0, 0, 2], runs[0].stderr
    assert_no_secret(tmp_path, *runs)


def with_code_of_its_own(model: Path, folder: Path, touches: Path, **config: object) -> Path:
    """A copy of `model` whose configuration, model and tokenizer name Python files of its own, which leave a trace."""
    copy = shutil.copytree(model, folder / "with-code")
    for module in ("configuration_own", "modeling_own", "tokenization_own"):
        (copy / f"{module}.py").write_text(f"open({str(touches)!r}, 'a').write('{module} ')\nclass Own: pass\n")
    own = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    changes = {
        "config.json": {"auto_map": own, **config},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["tokenization_own.Own", "tokenization_own.Own"]}},
    }
    for name, values in changes.items():
        path = copy / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return copy


def test_code_in_a_models_folder_is_not_run_where_transformers_knows_the_model(tmp_path, workers, home, new_session):
    model = with_code_of_its_own(home / "tiny", tmp_path, tmp_path / "ran")
    completed(workers, new_session(tmp_path, model, max_steps=2))
    assert not (tmp_path / "ran").exists()


def test_a_model_that_needs_its_own_code_is_refused_without_running_it(tmp_path, workers, home, new_session):
    model = with_code_of_its_own(
        home / "tiny", tmp_path, tmp_path / "ran", model_type="stranger", architectures=["Own"]
    )
    session = new_session(tmp_path, model, max_steps=2)
    assert_clear_error(workers.run("train", session), 2, "contains custom code", "trust_remote_code")
    assert state_of(session)["state"] == "failed" and not (tmp_path / "ran").exists()
