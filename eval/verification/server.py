"""Parity of the HTTP server: `resonance serve` of the checkpoint in a child process, on a free loopback port."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from eval.verification.claims import Claim
from eval.verification.parity import NEW_TOKENS, Answer, Prompt, Reference, compare
from resonance.checkpoint import Checkpoint

START_S = 120.0  # loading torch, building the kernels once on a machine, loading the weights
ANSWER_S = 120.0
STOP_S = 20.0
NAME = "parity: server"


def server_claim(checkpoint: Checkpoint, reference: Reference) -> Claim:
    """The server's greedy answers against the plain model's: prompt length, tokens and their log-probabilities.

    Conversations with sources are left out, because a request has no field for a message's context.
    """
    prompts = [prompt for prompt in reference.prompts if not prompt.has_context]
    try:
        with _served(checkpoint) as client:
            return compare(NAME, reference, prompts, lambda prompt: _ask(client, prompt, reference))
    except _ServerError as error:
        return Claim(NAME, "not checked", str(error))


class _ServerError(Exception):
    """The server did not start or did not answer."""


@contextmanager
def _served(checkpoint: Checkpoint) -> Generator[httpx.Client]:
    """A client of a server that is ready; the server ends with the block."""
    with TemporaryDirectory(prefix="resonance-verify-") as scratch:
        log, port = Path(scratch) / "server.log", _free_port()
        command = [sys.executable, "-m", "resonance.cli", "serve"]
        settings = {
            "checkpoint": str(checkpoint.folder.resolve()),
            "host": "127.0.0.1",
            "port": str(port),
            "auth": "none",
            "search": "off",
            "dtype": "fp32",
            "quantize": "null",
            "context_length": "null",
            "max_batch_size": "1",
            "repetition_penalty": "1.0",
            "store.url": f"sqlite+aiosqlite:///{scratch}/conversations.sqlite",
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        with log.open("w") as output:
            process = subprocess.Popen([*command, *overrides], stdout=output, stderr=subprocess.STDOUT, env=os.environ)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_S, trust_env=False) as client:
                _wait(process, client, log)
                yield client
        except httpx.HTTPError as error:
            raise _ServerError(f"the server does not answer ({type(error).__name__})") from error
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
            raise _ServerError(f"the server ended with {process.returncode}: {lines[-1]}")
        with suppress(httpx.HTTPError):
            if client.get("/health", timeout=5).status_code == HTTPStatus.OK:
                return
        time.sleep(0.2)
    raise _ServerError(f"the server was not ready after {START_S:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ask(client: httpx.Client, prompt: Prompt, reference: Reference) -> Answer | str:
    body = {
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
        "max_tokens": NEW_TOKENS,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 0,
    }
    response = client.post("/v1/chat/completions", json=body)
    if response.status_code != HTTPStatus.OK:
        raise _ServerError(f"the server answers {response.status_code}: {response.text[:200]}")
    answer: dict[str, Any] = response.json()
    count = answer["usage"]["prompt_tokens"]
    if count != len(prompt.ids):
        return f"the server's prompt of {prompt.name!r} has {count} tokens, and the template's {len(prompt.ids)}"
    (choice,) = answer["choices"]
    tokens = (choice["logprobs"] or {}).get("content") or []
    return Answer(
        [reference.tokenizer.id_of(bytes(token["bytes"])) for token in tokens],
        choice["finish_reason"] == "stop",
        [token["logprob"] for token in tokens],
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
