"""`resonance bench what=[serve,train]`: real servers and real runs of a tiny model, and what they leave behind."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from resonance.bench.job import Job
from resonance.bench.peers.build_llama_cpp import default_folder
from resonance.bench.peers.llama_cpp import is_built
from resonance.bench.runner import Settings, Worker
from resonance.bench.workloads import takes_part
from resonance.bench.workloads.load_generator import WrongAnswer, is_up, stream_completions
from resonance.bench.workloads.synthetic_text import single_token_words
from resonance.checkpoint import Checkpoint
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timing]  # whole servers and training runs are started

SMALL = GPT2Config(vocab_size=50257, context_length=1024, n_layer=1, n_head=2, n_embd=32)
QUICK = ["rounds=1", "repeats=2", "new_tokens=8", "prompt_tokens=8", "threads=1", "machine_seconds=0.01"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Checkpoint.save(tmp_path_factory.mktemp("bench") / "small", GPT2(SMALL), Tokenizer.gpt2()).folder


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "resonance.cli", "bench", *overrides]


def rows_of(path: Path, *overrides: str) -> dict[tuple[str, str], dict[str, float]]:
    done = subprocess.run(
        command(*overrides, *QUICK, f"json={path}"), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stdout
    return {(row["who"], row["precision"]): row for row in json.loads(path.read_text())["rows"]}


def processes_naming(words: str) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_a_server_is_measured_beside_its_engine_and_ended(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "figures.json", f"checkpoint={folder}", "what=serve", "batch=2", "precision=int8")
    row = rows["resonance", "int8"]
    assert row["what"] == "serve"
    assert row["batch"] == 2
    assert row["tokens_per_s"]["min"] > 0
    assert row["first_token_ms"] > 0
    assert 0 < row["share_of_engine"] < 10
    assert abs(row["overhead_ms"]) < row["first_token_ms"] + 1000
    assert row["peak_rss_mb"] > 100
    assert row["ceiling_share"] is None


@pytest.mark.skipif(
    not is_built(default_folder()), reason="llama.cpp is not built (python -m resonance.bench.peers.build_llama_cpp)"
)
def test_the_peers_server_streams_the_same_answers(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "figures.json",
        f"checkpoint={folder}", "what=serve", "batch=2", "precision=fp32", "peer=llamacpp",
    )  # fmt: skip
    assert set(rows) == {("resonance", "fp32"), ("llama.cpp", "fp32")}
    assert rows["llama.cpp", "fp32"]["tokens_per_s"]["min"] > 0
    assert "share_of_engine" not in rows["llama.cpp", "fp32"]


def test_training_is_measured_beside_transformers(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "figures.json",
        f"checkpoint={folder}", "what=train", "batch=2", "precision=[bf16,int8]", "peer=transformers",
    )  # fmt: skip
    assert set(rows) == {("resonance", "bf16"), ("transformers", "bf16"), ("transformers packed", "bf16")}
    for row in rows.values():
        assert row["what"] == "train"
        assert row["tokens_per_s"]["min"] > 0
        assert row["peak_rss_mb"] > 200
        assert row["ceiling_share"] > 0


def test_who_takes_part_depends_on_the_job_and_the_precision() -> None:
    assert takes_part("llama.cpp", "serve", "int4")
    assert not takes_part("transformers", "serve", "fp32")
    assert takes_part("transformers", "train", "bf16")
    assert not takes_part("resonance", "train", "int8")
    assert not takes_part("llama.cpp", "mixed", "int8")


@pytest.mark.parametrize("when", ["Loading resonance", "round 1 of"])
def test_a_killed_bench_leaves_no_server(folder: Path, when: str) -> None:
    overrides = ["what=serve", "batch=1", "precision=fp32", *QUICK[1:], "rounds=1000"]
    running = subprocess.Popen(
        command(f"checkpoint={folder}", *overrides), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert running.stdout
    assert any(line.startswith(when) for line in running.stdout)
    deadline = time.monotonic() + 120
    while not (servers := _grandchildren(running.pid, "resonance.cli serve")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert servers
    while any(map(_is_alive, servers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_is_alive, servers))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_killed_bench_leaves_no_training(folder: Path, number: signal.Signals, code: int) -> None:
    overrides = ["what=train", "batch=1", "precision=fp32", "repeats=100000", "threads=1", "machine_seconds=0.01"]
    with subprocess.Popen(
        command(f"checkpoint={folder}", *overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + 120
        while not (runs := _grandchildren(running.pid, "resonance.cli train")) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(number)
        assert running.wait(15) == code
    assert runs
    deadline = time.monotonic() + 5
    while any(map(_is_alive, runs)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_alive, runs))


def _grandchildren(pid: int, words: str) -> list[int]:
    children = [child for child in processes_naming("resonance.bench.worker") if _parent(child) == str(pid)]
    return [server for server in processes_naming(words) if _parent(server) in map(str, children)]


def _parent(pid: int) -> str:
    try:
        return next(
            line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid")
        )
    except OSError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_serves_takes_its_server_with_it(folder: Path) -> None:
    job = Job("serve", batch=1, prompt_tokens=8, new_tokens=4, repeats=1)
    worker = Worker("resonance", "fp32", [job], Settings(folder, threads=1, rounds=1, turn_seconds=60))
    with worker:
        assert worker.measure(job).rates
        servers = [pid for pid in processes_naming(f"serve checkpoint={folder}") if _is_alive(pid)]
        assert servers
    assert not any(_is_alive(pid) for pid in servers)


def test_words_are_one_token_each_alone_and_in_a_row() -> None:
    tokenizer = Tokenizer.gpt2()
    some = list(single_token_words(tokenizer))[::50]
    assert len(some) > 300
    assert len(tokenizer.encode("".join(some))) == len(some)


Serve = Callable[[bytes], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers whatever it is told to."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: bytes) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(200)
                self.send_header("Content-Security-Policy", "img-src 'self' data: blob:")
                self.end_headers()
                time.sleep(0.2)
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_first_token_is_the_first_event_and_no_header(serve: Serve) -> None:
    port = serve(b'data: {"choices": [{"text": " a", "finish_reason": "length"}]}\n\ndata: [DONE]\n\n')
    answers = stream_completions(port, [{}, {}])
    assert len(answers.first_tokens) == 2
    assert all(0.2 <= first <= answers.total for first in answers.first_tokens)


@pytest.mark.parametrize("reason", ['"stop"', "null"])
def test_an_answer_that_ends_too_early_is_no_measurement(serve: Serve, reason: str) -> None:
    port = serve(f'data: {{"choices": [{{"text": " a", "finish_reason": {reason}}}]}}\n\ndata: [DONE]\n\n'.encode())
    with pytest.raises(WrongAnswer, match="finish_reason"):
        stream_completions(port, [{}])


def test_a_server_that_is_not_there_is_not_up(serve: Serve) -> None:
    assert not is_up(serve(b""), "/health")  # it has no GET
    assert not is_up(1, "/health")
