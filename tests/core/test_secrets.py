"""No token leaves the program: not in an error, not in JSON, not in a session, not in a traceback."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from unsloth_fft.benchmarking import measurement_rows
from unsloth_fft.commands import plan
from unsloth_fft.core import hub, terminal
from unsloth_fft.core.errors import BadInput, MissingHere
from unsloth_fft.core.redaction import without_secrets

TOKEN = "hf_SECRETSECRETSECRET"
UNKNOWN = ("--model", "foo/bar-unknown", "--gpu", "H100", "--max-steps", "5", "--json")


@pytest.fixture
def hub_that_answers(monkeypatch) -> Iterator[list[bytes]]:
    """A Hub on this machine that sends the one body it is given for everything."""
    body = [b""]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body[0]) + (100 if body[0] == b"cut" else 0)))
            self.end_headers()
            self.wfile.write(body[0])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield body
    server.shutdown()


@pytest.mark.parametrize("end", ["", "\r", "\n", "\r\n", "\t", " "])
def test_blanks_around_a_token_are_taken_off_and_it_is_never_shown(monkeypatch, capsys, hub_that_answers, end):
    monkeypatch.setenv("HF_TOKEN", TOKEN + end)
    assert plan.main(UNKNOWN) == 2
    said = capsys.readouterr()
    assert "is not JSON" in said.err and TOKEN not in said.out + said.err


@pytest.mark.parametrize("inside", ["\r", " ", "\x0b", "é"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch, capsys, inside):
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}{inside}{TOKEN}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert plan.main(UNKNOWN) == 2
    said = capsys.readouterr()
    assert "HF_TOKEN holds" in said.err and TOKEN not in said.out + said.err


@pytest.mark.parametrize("error", [BadInput, MissingHere])
def test_an_error_that_quotes_a_secret_hides_it_in_words_in_json_and_on_record(monkeypatch, capsys, error):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    told = error(f"Illegal header value b'Bearer {TOKEN}\\r' for 0123456789abcdef", hint="https://me:pw12345678@host/x")

    def fails() -> int:
        raise told

    assert terminal.run(fails, as_json=True) == error.exit_code
    said = capsys.readouterr()
    for secret in (TOKEN, "0123456789abcdef", "pw12345678"):
        assert secret not in said.out + said.err + told.message + told.hint
    assert json.loads(said.out)["error"]["message"].startswith("Illegal header value")


def test_the_traceback_of_a_fault_hides_secrets_too(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def fails() -> int:
        raise KeyError(TOKEN)

    assert terminal.run(fails, as_json=False) == 1
    said = capsys.readouterr().err
    assert "KeyError" in said and TOKEN not in said


def test_a_measured_row_names_variables_without_their_secrets(monkeypatch):
    monkeypatch.setenv("UNSLOTH_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("UNSLOTH_FSDP2", "1")
    found = measurement_rows.variables_that_matter()
    assert found["UNSLOTH_API_KEY"] == "***" and found["UNSLOTH_FSDP2"] == "1"


def test_ordinary_words_stay(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/someone/token")
    text = "hf_jobs_train_fft.sh, hf_transfer, eos_token=<|im_end|>, false, /home/someone/token, a bearer of news"
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "body", [b"", b"cut", b"\xff\xfe\x00", b"[" * 100_000, b"<html>", b'{"hidden_size": ' + b"9" * 400 + b"}", b"[]"]
)
def test_what_a_hub_sends_that_is_no_configuration_is_refused_in_two_lines(hub_that_answers, capsys, body):
    hub_that_answers[0] = body
    assert plan.main(UNKNOWN) in (2, 4)
    said = capsys.readouterr().err
    assert [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"], said


@pytest.mark.parametrize("endpoint", ["file:///etc", "huggingface.co", "http://[", "http://127.0.0.1:99999", "ftp://x"])
def test_an_address_of_the_hub_that_is_none_is_refused_in_two_lines(monkeypatch, capsys, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert plan.main(UNKNOWN) in (2, 4)
    said = capsys.readouterr().err
    assert [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"], said


@pytest.mark.parametrize("given", ["", "  ", "/"])
def test_an_empty_address_is_the_public_one(monkeypatch, given):
    monkeypatch.setenv("HF_ENDPOINT", given)
    assert hub.endpoint() == hub.ADDRESS
