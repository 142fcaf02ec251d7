"""`resonance bench`: measures programs on the same weights, and prints medians, spreads and shares of the limits."""

import os
import tempfile
from collections.abc import Collection, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, ListConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from resonance.bench import machine as limits
from resonance.bench import report
from resonance.bench.peers import MODULES, PRECISIONS
from resonance.bench.runner import Measurements, Settings, measure
from resonance.bench.workloads import MODULES as WORKLOADS
from resonance.bench.workloads import Job, engine, takes_part, training
from resonance.checkpoint import Checkpoint
from resonance.engine.quantization import Precision
from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.tokenizer import Tokenizer

PEERS = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llamacpp": "llama.cpp"}
SIZES = ("n_layer", "n_head", "n_embd", "context_length", "tie_weights", "initializer_range")


class BenchError(ResonanceError):
    """A benchmark that cannot be run."""


def main(overrides: list[str]) -> None:
    """Run the benchmarks of `configs/bench.yaml` with these overrides; print a table, write JSON."""
    config = compose("bench", overrides)
    jobs, programs, precisions = _jobs(config), _programs(config), _precisions(config)
    checkpoint = None if config.checkpoint is None else Checkpoint.find(str(config.checkpoint))
    _check_context(jobs, config.model.context_length if checkpoint is None else checkpoint.config.context_length)
    threads = config.threads or len(os.sched_getaffinity(0))
    console = report.make_console()
    console.print(f"Measuring the machine with {threads} threads ...")
    machine = limits.measure(threads)
    report.print_machine(console, machine)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with tempfile.TemporaryDirectory() as work, Progress(*columns, console=console, transient=True) as progress:
        console.print(f"Writing {config.checkpoint or config.model.name} for all programs ...")
        folder, model_config = _weights(config, checkpoint, Path(work))
        measured: list[Measurements] = []
        total = config.rounds * sum(
            takes_part(program, job.what, precision) for program in programs for job in jobs for precision in precisions
        )
        task = progress.add_task("Measuring", total=total)
        settings = Settings(folder, threads, config.rounds, config.turn_seconds)
        try:
            for measurements in measure(programs, precisions, jobs, settings, partial(console.print, soft_wrap=True)):
                if not any(measurements is known for known in measured):
                    measured.append(measurements)
                progress.advance(task)
                if config.json is not None:
                    report.write_json(Path(config.json), machine, model_config, measured)
        finally:  # prints what was measured before an interruption, too
            progress.stop()
            report.print_table(console, machine, model_config, measured)


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, ListConfig) else [value]


def _names(config: DictConfig, key: str, known: Collection[str]) -> list[str]:
    names = [str(name) for name in _as_list(config[key])]
    for name in names:
        if name not in known:
            raise BenchError(f"{key} must be of {', '.join(known)}, not {name!r}.")
    return names


def _jobs(config: DictConfig) -> list[Job]:
    names = _names(config, "what", WORKLOADS)
    for key, least in (("rounds", 1), ("repeats", 1), ("new_tokens", 2), ("prompt_tokens", 1), ("prefill_tokens", 1)):
        if not isinstance(config[key], int) or config[key] < least:
            raise BenchError(f"{key} must be a whole number of at least {least}, not {config[key]!r}.")
    for batch in _as_list(config.batch):
        if not isinstance(batch, int) or batch < 1:
            raise BenchError(f"batch must be made of whole numbers of at least 1, not {batch!r}.")
    return [
        Job(
            what=name,
            batch=cast("int", batch),
            prompt_tokens=config.prefill_tokens if name == "prefill" else config.prompt_tokens,
            new_tokens=config.new_tokens,
            repeats=config.repeats,
        )
        for name in names
        for batch in _as_list(config.batch)
    ]


def _programs(config: DictConfig) -> list[str]:
    peers = _names(config, "peer", PEERS)
    for peer in peers:
        if find_spec(MODULES[PEERS[peer]]) is None:
            raise BenchError(f"peer={peer} is not installed; `pip install 'resonance[bench]'` brings it.")
    return ["resonance", *(PEERS[peer] for peer in peers)]


def _precisions(config: DictConfig) -> list[Precision]:
    supported = PRECISIONS["resonance"]
    requested = _names(config, "precision", supported)
    return [precision for precision in supported if precision in requested]


def _check_context(jobs: Sequence[Job], context_length: int) -> None:
    # An answer that the context cuts short would count as a fast one.
    for job in jobs:
        lengths = {
            "prefill": job.prompt_tokens,
            "mixed": engine.PROMPT[1] + engine.ANSWER[1],
            "turns": engine.SHARED + engine.QUESTION,
            "quoting": engine.CONTEXT + job.new_tokens,
            "train": training.ROW_LENGTH,
        }
        longest = lengths.get(job.what, job.prompt_tokens + job.new_tokens)
        if longest > context_length:
            raise BenchError(
                f"what={job.what} makes texts of {longest} tokens, but the model's context holds {context_length}; "
                "take a model with a longer one, or fewer prompt_tokens, prefill_tokens or new_tokens."
            )


def _weights(config: DictConfig, checkpoint: Checkpoint | None, work: Path) -> tuple[Path, GPT2Config]:
    # A folder in the format of Hugging Face, which every program reads or converts.
    if checkpoint is not None:
        model, tokenizer, metadata = checkpoint.load_model(), checkpoint.load_tokenizer(), checkpoint.metadata
        return Checkpoint.save(work / "model", model, tokenizer, metadata).folder, model.config
    torch.manual_seed(0)
    model = GPT2(GPT2Config(**{name: config.model[name] for name in SIZES}))
    return Checkpoint.save(work / "model", model, Tokenizer.gpt2()).folder, model.config
