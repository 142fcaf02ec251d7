"""`make bench-gpu`: the engine and training on one CUDA GPU, as a Markdown table with the card's name.

`python -m resonance.bench.gpu [FILE]` measures each figure in a process of its own, because a program keeps the memory
of a GPU that it has taken. Weights are random. compiled transformers and vLLM are measured where they are installed.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from resonance.atomic_files import write_text_atomically
from resonance.bench import machine
from resonance.checkpoint import Checkpoint
from resonance.engine import Engine, SamplingParams
from resonance.engine.quantization import Precision
from resonance.hydra_config import compose
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.tokenizer import Tokenizer

MODELS = ("gpt2", "gpt2-large")
BATCHES = (1, 8, 64, 256)
PROMPT, NEW, PREFILL = 128, 128, 512  # tokens
REPEATS = 3
TIMEOUT = 300.0  # seconds of a measurement; with its loading and compiling
TRAINED_STEPS = 20
SIZES = ("vocab_size", "n_layer", "n_head", "n_embd", "context_length", "tie_weights", "initializer_range")


@dataclass(frozen=True, slots=True)
class Card:
    """The GPU and its measured limits."""

    name: str
    torch: str
    bandwidth: float  # bytes a second, read and written by a copy
    matmul: float  # FLOP a second, bf16


def main(arguments: list[str]) -> int:
    """Measure everything, and write the table to a file, or print it. Returns the process's exit code."""
    if arguments[:1] == ["--measure"]:
        print(json.dumps(_measure(**json.loads(arguments[1]))))
        return 0
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here that torch can use, and bench-gpu measures nothing else.", file=sys.stderr)
        return 2
    card = measure_card()
    with tempfile.TemporaryDirectory() as work:
        rows = list(_rows(card, Path(work)))
    text = f"{card.name}, torch {card.torch}: copies {card.bandwidth / 1e9:.0f} GB/s, multiplies "
    text += f"{card.matmul / 1e12:.0f} TFLOP/s in bf16. Weights are random.\n\n{table(rows)}"
    if arguments:
        write_text_atomically(Path(arguments[0]), text)
    print(text)
    return 0


def measure_card(device: str = "cuda") -> Card:
    """The limits of this card, each the best of half a second."""
    place = torch.device(device)
    source = torch.empty(1 << (28 if place.type == "cuda" else 24), dtype=torch.float32, device=place)
    target = torch.empty_like(source)
    seconds = min(_seconds(lambda: target.copy_(source), place) for _ in range(20))
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else machine.processor()
    matmul = machine.matmul_gflop_per_s(torch.bfloat16, device=place) * 1e9
    return Card(name, torch.__version__, 2 * source.nbytes / seconds, matmul)


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of (what, model, program, batch, tokens/s, share of the limit, peak MB) as Markdown."""
    heading = ("what", "model", "who", "batch", "tokens/s", "share of the limit", "peak MB")
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(card: Card, work: Path) -> Iterator[tuple[str, ...]]:
    for name in MODELS:
        config = _sizes(name)
        folder = work / name
        torch.manual_seed(0)
        Checkpoint.save(folder, GPT2(config), Tokenizer.gpt2())
        for what, who, precision, batches in _jobs():
            for batch in batches:
                figures = _in_process(
                    what=what, who=who, precision=precision, folder=str(folder), batch=batch, device="cuda"
                )
                if "error" in figures:
                    yield what, name, f"{who} {precision}", str(batch), figures["error"], "", ""
                    continue
                limit = _limit(card, config, what, precision, batch)
                rate = median(figures["tokens_per_s"])
                yield (
                    what, name, f"{who} {precision}", str(batch), f"{rate:.0f}", f"{rate / limit:.0%}",
                    f"{figures['peak_mb']:.0f}",
                )  # fmt: skip


def _jobs() -> Iterator[tuple[str, str, Precision, tuple[int, ...]]]:
    precisions: tuple[Precision, ...] = ("bf16", "int8", "int4")
    for precision in precisions:
        yield "decode", "resonance", precision, BATCHES
        yield "prefill", "resonance", precision, (1, 8)
    for peer in ("transformers", "vllm"):
        if find_spec(peer):
            yield "decode", peer, "bf16", BATCHES
    yield "train", "resonance", "bf16", (16,)


def _limit(card: Card, config: GPT2Config, what: str, precision: Precision, batch: int) -> float:
    if what == "decode":
        nbytes = machine.weight_bytes(config, precision)
        position = PROMPT + NEW // 2
        nbytes += batch * position * 2 * config.n_layer * config.n_embd * machine.CACHE_BYTES[precision]
        return batch * card.bandwidth / nbytes
    block = 12 * config.n_embd**2 + config.n_embd * (config.context_length if what == "train" else PREFILL)
    products = config.n_layer * block + (config.vocab_size * config.n_embd if what == "train" else 0)
    return card.matmul / (products * (6 if what == "train" else 2))


def _in_process(**order: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "resonance.bench.gpu", "--measure", json.dumps(order)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"over {TIMEOUT:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no reason"])[-1][:120].replace("|", "/")}
    return json.loads(done.stdout.splitlines()[-1])


def _measure(what: str, who: str, precision: Precision, folder: str, batch: int, device: str) -> dict[str, Any]:
    if what == "train":
        return _train(folder, batch, device)
    place = torch.device(device)
    loaded = {"resonance": _resonance, "transformers": _transformers, "vllm": _vllm}[who](
        Path(folder), precision, batch, place
    )
    vocab_size = Checkpoint.open(folder).config.vocab_size
    length, new = (PREFILL, 1) if what == "prefill" else (PROMPT, NEW)

    def run(new_tokens: int) -> float:
        prompts = torch.randint(vocab_size, (batch, length)).tolist()
        return _seconds(lambda: loaded(prompts, new_tokens), place)

    run(new)
    rates: list[float] = []
    for _ in range(REPEATS):
        if what == "prefill":
            rates.append(batch * length / run(1))
        else:  # without the prompt's time, which is most of the first token's
            rates.append(batch * (new - 1) / max(run(new) - run(1), 1e-9))
    peak = torch.cuda.max_memory_allocated() if place.type == "cuda" else 0
    return {"tokens_per_s": rates, "peak_mb": peak / 2**20}


Generate = Callable[[list[list[int]], int], object]


def _resonance(folder: Path, precision: Precision, batch: int, device: torch.device) -> Generate:
    model = Checkpoint.open(folder).load_model().to(device)
    engine = Engine(model, max_batch_size=batch, precision=precision)
    return lambda prompts, new: engine.generate(
        prompts, SamplingParams(max_new_tokens=new, temperature=0, ignore_eos=True)
    )


def _transformers(folder: Path, precision: Precision, batch: int, device: torch.device) -> Generate:
    library: Any = import_module("transformers")
    model = library.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.bfloat16)
    model.to(device).eval()

    def generate(prompts: list[list[int]], new: int) -> object:  # with a static cache, transformers compiles decoding
        ids = torch.tensor(prompts, device=device)
        options: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), cache_implementation="static", **options)

    return generate


def _vllm(folder: Path, precision: Precision, batch: int, device: torch.device) -> Generate:
    library: Any = import_module("vllm")
    model = library.LLM(str(folder), dtype="bfloat16", max_num_seqs=batch, gpu_memory_utilization=0.5)

    def generate(prompts: list[list[int]], new: int) -> object:
        params = library.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)
        return model.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)

    return generate


def _train(folder: str, batch: int, device: str) -> dict[str, Any]:
    from resonance.bench.workloads import examples

    context = Checkpoint.open(folder).config.context_length
    examples.write(Path(folder), "dense")
    with tempfile.TemporaryDirectory() as runs:
        overrides = [
            f"checkpoints_dir={runs}", "run=bench", f"model.weights={folder}", "model.dropout=0.0", "data=json",
            f"data.path={examples.text_file(Path(folder), 'dense')}", "data.train=1.0", "data.test=0.0",
            "data.validation=0.0", "data_cache=false", f"batch.size={batch}", f"batch.row_length={context}",
            "objective.loss_on=all", f"trainer.max_steps={TRAINED_STEPS}", "trainer.log_every_n_steps=1",
            "trainer.precision=bf16-mixed", f"trainer.accelerator={device}", "trainer.devices=1",
            f"template={Checkpoint.open(folder).template().name}", "callbacks.progress=false",
            "callbacks.samples.every_n_steps=0", "logger=none",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "resonance.cli", "train", *overrides], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason"])[-1])
        with (Path(runs) / "bench" / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("tokens_per_s")]
    peaks = [float(row["peak_memory_mb"]) for row in rows if row.get("peak_memory_mb")]
    return {"tokens_per_s": [float(row["tokens_per_s"]) for row in rows[5:]], "peak_mb": max(peaks, default=0.0)}


def _sizes(name: str) -> GPT2Config:
    config = compose("bench", [f"model={name}"]).model
    return GPT2Config(**{key: config[key] for key in SIZES if key in config})


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started_at = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started_at


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
