"""llama.cpp, built from its own source by `build_llama_cpp`, measured by its own `llama-batched-bench`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from resonance.bench import memory
from resonance.bench.peers import place
from resonance.bench.peers.build_llama_cpp import TOOLS, default_folder

if TYPE_CHECKING:
    from resonance.bench.job import Job
    from resonance.engine.quantization import Precision

TYPES: "dict[Precision, str]" = {"fp32": "f32", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
CONTEXT = 1024  # tokens of a sequence


class LlamaCpp:
    """Starts the benchmark once for every repeat; loading is not counted, and neither is sampling."""

    def __init__(self, model: Path, threads: int) -> None:
        self._model, self._threads = model, threads

    def measure(self, job: "Job") -> dict[str, object]:
        """See Tool."""
        runs = [self._run(job) for _ in range(job.repeats)]
        return {"tokens_per_s": [rate for rate, _ in runs], "peak_rss_mb": max(peak for _, peak in runs)}

    def _run(self, job: "Job") -> tuple[float, int]:
        new_tokens = 1 if job.what == "prefill" else job.new_tokens
        options = {
            "-m": self._model,
            "-c": CONTEXT * job.batch,
            "-npp": job.prompt_tokens,
            "-ntg": new_tokens,
            "-npl": job.batch,
            "-t": self._threads,
            "-tb": self._threads,
            "--output-format": "jsonl",
        }
        command = [tools_folder() / "llama-batched-bench", *(word for option in options.items() for word in option)]
        done = memory.run(command)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            raise RuntimeError(f"llama-batched-bench ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
        figures: dict[str, float] = json.loads(lines[-1])
        return figures["speed_pp" if job.what == "prefill" else "speed_tg"], done.peak_mb


def prepare(folder: Path, precision: "Precision") -> None:
    """See Peer."""
    from resonance.checkpoint import Checkpoint  # here, because they import torch, which measuring does not need
    from resonance.cli.export import export

    if not exported(folder, precision).exists():
        export(Checkpoint.open(folder), "gguf", exported(folder, precision), kind=TYPES[precision])


def load(folder: Path, precision: "Precision", batch: int, threads: int) -> LlamaCpp:
    """See Peer."""
    return LlamaCpp(exported(folder, precision), threads)


def exported(folder: Path, precision: "Precision") -> Path:
    """The GGUF file that `prepare` writes."""
    return folder.with_name(f"{folder.name}-{TYPES[precision]}.gguf")


def server_command(folder: Path, precision: "Precision", batch: int, threads: int, port: int) -> list[str]:
    """The command of `llama-server` with `batch` slots, which answer at the same time."""
    options = {"-m": exported(folder, precision), "-np": batch, "-c": CONTEXT * batch, "-t": threads, "-tb": threads}
    words = [tools_folder() / "llama-server", *(word for option in options.items() for word in option)]
    return [str(word) for word in (*words, "--host", "127.0.0.1", "--port", port, "--no-webui")]


def tools_folder() -> Path:
    """The folder of llama.cpp's programs."""
    return place("llamacpp") or default_folder()


def is_built(folder: Path) -> bool:
    """Whether a folder has the programs."""
    return all((folder / tool).is_file() for tool in TOOLS)
