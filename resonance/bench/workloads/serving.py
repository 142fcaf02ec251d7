"""`what=serve`: answers streamed from a server on loopback to many clients, compared with the engine alone.

All answers have the same length: a logit bias forbids the tokens that would end one. Prompts consist of words that are
one token each, so that every server reads them as the same tokens.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import torch

from resonance.bench.job import Job
from resonance.bench.memory import tree_pss_mb
from resonance.bench.peers import peer
from resonance.bench.workloads import Measure
from resonance.bench.workloads.load_generator import HOST, Timings, free_port, is_up, stream_completions
from resonance.bench.workloads.synthetic_text import single_token_words
from resonance.checkpoint import Checkpoint
from resonance.child_process import ending_with_parent
from resonance.engine import Engine, SamplingParams
from resonance.engine.quantization import Precision

START_TIMEOUT = 300.0  # seconds, which include the compilation of kernels
STOP_TIMEOUT = 10.0
NEVER = -100.0  # the lowest logit bias of OpenAI's API


class Server:
    """A server's process, ready when it answers `path`; the `with` block ends it as a supervisor does."""

    def __init__(self, command: Sequence[str], port: int, path: str) -> None:
        self.port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            ending_with_parent(command), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_TIMEOUT
        while not is_up(port, path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                lines = self._log.read().decode(errors="replace").strip().splitlines() or ["it logged nothing"]
                self.close()
                raise RuntimeError(f"the server does not start: {lines[-1]}")
            time.sleep(0.1)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Clients:
    """Streams answers from a server; with `engine`, in turns with the same requests to this engine alone."""

    def __init__(self, server: Server, checkpoint: Checkpoint, engine: Engine | None = None) -> None:
        self._server, self._engine, self._tokenizer = server, engine, checkpoint.load_tokenizer()
        self._end_ids = {self._tokenizer.eot_id, checkpoint.template().end_id}
        self._words = list(single_token_words(self._tokenizer))

    def measure(self, job: Job) -> dict[str, object]:
        """Streamed tokens a second, the milliseconds to an answer's first token, and the comparison with the engine."""
        served: list[Timings] = []
        alone: list[Timings] = []
        for _ in range(job.repeats + 1):
            served.append(self._stream(job))
            alone += [] if self._engine is None else [self._generate(self._engine, job)]
        served, alone = served[1:], alone[1:]  # the first is a warm-up
        figures: dict[str, object] = {
            "tokens_per_s": [job.batch * job.new_tokens / timings.total for timings in served],
            "first_token_ms": median(median(timings.first_tokens) for timings in served) * 1000,
            "peak_rss_mb": tree_pss_mb(self._server.pid),
        }
        if alone:
            pairs = list(zip(served, alone, strict=True))
            figures["share_of_engine"] = median(engine.total / server.total for server, engine in pairs)
            overheads = (median(server.first_tokens) - median(engine.first_tokens) for server, engine in pairs)
            figures["overhead_ms"] = median(overheads) * 1000
        return figures

    def _prompts(self, job: Job) -> list[str]:
        # New random prompts, no prefix of which is in a cache.
        return ["".join(random.choices(self._words, k=job.prompt_tokens)) for _ in range(job.batch)]

    def _stream(self, job: Job) -> Timings:
        bias = {str(token): NEVER for token in self._end_ids}
        shared = {"max_tokens": job.new_tokens, "temperature": 0, "stream": True, "logit_bias": bias}
        return stream_completions(self._server.port, [{"prompt": prompt, **shared} for prompt in self._prompts(job)])

    def _generate(self, engine: Engine, job: Job) -> Timings:
        bias = dict.fromkeys(self._end_ids, NEVER)
        params = SamplingParams(max_new_tokens=job.new_tokens, temperature=0, logit_bias=bias)
        prompts, first_tokens = self._prompts(job), dict[str, float]()
        started_at = time.perf_counter()
        for prompt in prompts:
            engine.submit(self._tokenizer.encode(prompt), params)
        while engine.has_work:
            for request_id, _ in engine.step():
                first_tokens.setdefault(request_id, time.perf_counter() - started_at)
        return Timings(list(first_tokens.values()), time.perf_counter() - started_at)


def prepare(program: str, folder: Path, precision: Precision) -> None:
    """Write what the server reads."""
    peer(program).prepare(folder, precision)


@contextmanager
def load(program: str, folder: Path, precision: Precision, batch: int, threads: int) -> Generator[Measure]:
    """Start a server, which ends with the `with` block."""
    checkpoint, port = Checkpoint.open(folder), free_port()
    with ExitStack() as stack:
        if program == "resonance":
            torch.set_num_threads(threads)
            dtype, quantize = ("auto", precision) if precision in ("int8", "int4") else (precision, None)
            engine = Engine.from_checkpoint(checkpoint, dtype, quantize, batch)
            home = stack.enter_context(tempfile.TemporaryDirectory())
            command = [
                *(sys.executable, "-m", "resonance.cli", "serve", f"checkpoint={folder}", f"max_batch_size={batch}"),
                f"quantize={quantize}" if quantize else f"dtype={dtype}",
                *(f"host={HOST}", f"port={port}", "auth=none", "search=off", "grace_s=1", "log=error"),
                f"store.url=sqlite+aiosqlite:///{home}/conversations.sqlite",
            ]
            server = Server(command, port, "/health")
            clients = Clients(server, checkpoint, engine)
        else:
            from resonance.bench.peers.llama_cpp import server_command

            server = Server(server_command(folder, precision, batch, threads, port), port, "/health")
            clients = Clients(server, checkpoint)
        stack.callback(server.close)
        yield clients.measure
