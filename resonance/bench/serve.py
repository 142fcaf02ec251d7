"""`what=serve`: answers streamed from a server on loopback to many clients, beside the same engine without a server.

Answers are of equal length: the tokens that would end one are forbidden, to all alike. Prompts are texts of words
that are one token each, which every server reads as the same tokens.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from resonance.bench import peers
from resonance.bench.clients import HOST, Answers, ask, free_port, is_up
from resonance.bench.words import words
from resonance.checkpoint import Checkpoint
from resonance.engine import Engine, SamplingParams
from resonance.engine.quantization import Precision

STARTING_SECONDS = 300.0  # a server may take, its kernels' compilation among it
ENDING_SECONDS = 10.0
NEVER = -100.0  # the strongest logit bias that OpenAI's API knows


class Server:
    """A server's process, from its start to `close`. `path` is what it gives once it can answer."""

    def __init__(self, command: Sequence[str], port: int, path: str) -> None:
        self.port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline, parent = time.monotonic() + STARTING_SECONDS, os.getppid()
        while not is_up(port, path):
            if self._process.poll() is not None or time.monotonic() > deadline or os.getppid() != parent:
                self._log.seek(0)
                lines = self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                self.close()
                raise RuntimeError(f"the server does not start: {lines[-1]}")
            time.sleep(0.1)

    def close(self) -> None:
        """End the process as a supervisor does."""
        self._process.terminate()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def megabytes(self) -> int:
        """What the server's processes hold in memory at present; what they share is counted once."""
        return round(sum(_proportional_kilobytes(pid) for pid in _with_descendants(self._process.pid)) / 1024)


class Clients:
    """Streams answers from a server: the program of a peer."""

    def __init__(self, server: Server, checkpoint: Checkpoint) -> None:
        self._server, self.tokenizer = server, checkpoint.load_tokenizer()
        self.end_ids = {self.tokenizer.eot_id, checkpoint.template().end_id}
        self._words = list(words(self.tokenizer))

    def measure(self, job: Mapping[str, int]) -> dict[str, object]:
        """Streamed tokens a second over all answers, and the milliseconds to an answer's first token."""
        answers = [self.ask(self.prompts(job), job["new_tokens"]) for _ in range(job["repeats"] + 1)]
        return self.figures(job, answers[1:])  # the first warms up

    def close(self) -> None:
        """End the server."""
        self._server.close()

    def prompts(self, job: Mapping[str, int]) -> list[str]:
        """Fresh prompts, so that no server has seen their beginnings."""
        return ["".join(random.choices(self._words, k=job["prompt_tokens"])) for _ in range(job["batch"])]

    def ask(self, prompts: Sequence[str], new_tokens: int) -> Answers:
        """Let the server continue all prompts at the same time by so many tokens each."""
        same = {"max_tokens": new_tokens, "temperature": 0, "stream": True}
        bias = {str(token): NEVER for token in self.end_ids}
        return ask(self._server.port, [{"prompt": prompt, "logit_bias": bias, **same} for prompt in prompts])

    def figures(self, job: Mapping[str, int], answers: Sequence[Answers]) -> dict[str, object]:
        """As the table and the JSON want them."""
        return {
            "tokens_per_s": [job["batch"] * job["new_tokens"] / answer.last for answer in answers],
            "first_token_ms": median(median(answer.first) for answer in answers) * 1000,
            "peak_rss_mb": self._server.megabytes(),
        }


class BesideEngine(Clients):
    """Streams answers from `resonance serve`, in turns with the same engine in this process."""

    def __init__(self, folder: Path, precision: Precision, batch: int) -> None:
        checkpoint = Checkpoint.open(folder)
        dtype, quantize = ("auto", precision) if precision in ("int8", "int4") else (precision, None)
        self._engine = Engine.from_checkpoint(checkpoint, dtype, quantize, batch)
        self._home = tempfile.TemporaryDirectory()
        port, precisely = free_port(), f"quantize={quantize}" if quantize else f"dtype={dtype}"
        command = [
            *("-m", "resonance.cli", "serve", f"checkpoint={folder}", precisely, f"max_batch_size={batch}"),
            *(f"host={HOST}", f"port={port}", "auth=none", "search=off", "grace_s=1", "log=error"),
            f"store.url=sqlite+aiosqlite:///{self._home.name}/conversations.sqlite",
        ]
        super().__init__(Server(command, port, "/health"), checkpoint)

    def measure(self, job: Mapping[str, int]) -> dict[str, object]:
        """What Clients measure, and how it compares with the engine alone."""
        streamed: list[Answers] = []
        alone: list[Answers] = []
        for _ in range(job["repeats"] + 1):  # the first of which warms up
            streamed.append(self.ask(self.prompts(job), job["new_tokens"]))
            alone.append(self._ask_engine(self.prompts(job), job["new_tokens"]))
        pairs = list(zip(streamed, alone, strict=True))[1:]
        return {
            **self.figures(job, streamed[1:]),
            "share_of_engine": median(engine.last / server.last for server, engine in pairs),
            "overhead_ms": median((median(server.first) - median(engine.first)) * 1000 for server, engine in pairs),
        }

    def close(self) -> None:
        """See Clients."""
        super().close()
        self._home.cleanup()

    def _ask_engine(self, prompts: Sequence[str], new_tokens: int) -> Answers:
        bias = dict.fromkeys(self.end_ids, NEVER)
        params = SamplingParams(max_new_tokens=new_tokens, temperature=0, logit_bias=bias)
        first: dict[str, float] = {}
        began = time.perf_counter()
        for prompt in prompts:
            self._engine.submit(self.tokenizer.encode(prompt), params)
        while self._engine.has_work:
            for request, _ in self._engine.step():
                first.setdefault(request, time.perf_counter() - began)
        return Answers(list(first.values()), time.perf_counter() - began)


def prepare(who: str, folder: Path, precision: Precision) -> None:
    """Write what the server reads, as peers.prepare does. Raises Unsupported where the peer has no server."""
    if who == "llama.cpp" and any(find_spec(name) is None for name in ("sse_starlette", "starlette_context")):
        raise peers.Unsupported("its server is not installed; `pip install 'llama-cpp-python[server]'` brings it")
    peers.prepare(who, folder, precision)


def load(who: str, folder: Path, precision: Precision, batch: int, threads: int) -> Clients:
    """Start a server, for `close` to end."""
    if who == "resonance":
        torch.set_num_threads(threads)
        return BesideEngine(folder, precision, batch)
    from resonance.bench.peers.llama_cpp import exported

    port = free_port()
    command = ["-m", "resonance.bench.peers.llama_server", str(exported(folder, precision)), str(port), str(threads)]
    return Clients(Server(command, port, "/v1/models"), Checkpoint.open(folder))


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        with suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _proportional_kilobytes(pid: int) -> int:
    # Linux's proportional set size: a page that several processes share is divided among them.
    with suppress(OSError):
        told = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        return int(re.findall(r"^Pss:\s+(\d+)", told, re.MULTILINE)[0])
    return 0
