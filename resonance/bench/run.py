"""`resonance bench`: measures programs on the same weights, and prints medians, spreads and shares of the limits."""

import os
import signal
import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, ListConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from resonance.bench import machine as limits
from resonance.bench import report
from resonance.bench.growth_chart import write_picture
from resonance.bench.job import Job
from resonance.bench.peers import INTERPRETERS, PACKAGES, PRECISIONS, PROGRAMS, llama_cpp
from resonance.bench.peers.build_llama_cpp import default_folder
from resonance.bench.runner import Measurements, Settings, measure
from resonance.bench.workloads import MODULES as WORKLOADS
from resonance.bench.workloads import engine, examples, takes_part
from resonance.checkpoint import Checkpoint
from resonance.engine.quantization import Precision
from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.tokenizer import Tokenizer

SIZES = ("n_layer", "n_head", "n_embd", "context_length", "tie_weights", "initializer_range")


class BenchError(ResonanceError):
    """A benchmark that cannot be run."""


def main(overrides: list[str]) -> None:
    """Run the benchmarks of `configs/bench.yaml` with these overrides; print a table, write JSON."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: with the table, and no file left
    config = compose("bench", overrides)
    jobs, precisions, places = _jobs(config), _precisions(config), _places(config)
    programs = _programs(config, places)
    checkpoint = None if config.checkpoint is None else Checkpoint.find(str(config.checkpoint))
    _check_context(jobs, config.model.context_length if checkpoint is None else checkpoint.config.context_length)
    threads = config.threads or len(os.sched_getaffinity(0))
    console = report.make_console()
    console.print(f"Measuring the machine with {threads} threads ...")
    best = limits.measure(threads, config.machine_seconds)
    report.print_machine(console, best)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with tempfile.TemporaryDirectory() as work, Progress(*columns, console=console, transient=True) as progress:
        console.print(f"Writing {config.checkpoint or config.model.name} for all programs ...")
        folder, model_config = _weights(config, checkpoint, Path(work))
        trained: dict[str, examples.Statistics] = {}
        for what in dict.fromkeys(job.what for job in jobs if job.what in examples.ROW_LENGTH):
            examples.write(folder, what)
            trained[what] = examples.statistics(examples.read(folder, what))
        measured: list[Measurements] = []
        total = config.rounds * sum(
            takes_part(program, job.what, precision) for program in programs for job in jobs for precision in precisions
        )
        task = progress.add_task("Measuring", total=total)
        settings = Settings(folder, threads, config.rounds, config.turn_seconds, places)

        def measure_machine() -> None:  # again, because other guests of the host come and go
            nonlocal best
            if measured:
                best = best.best_of(limits.measure(threads, config.machine_seconds))

        log = partial(console.print, soft_wrap=True)
        try:
            for measurements in measure(programs, precisions, jobs, settings, log, measure_machine):
                if not any(measurements is known for known in measured):
                    measured.append(measurements)
                progress.advance(task)
                if config.json is not None:
                    ceilings = report.Ceilings(best, model_config, trained)
                    report.write_json(Path(config.json), ceilings, measured)
        finally:  # prints what was measured before an interruption, too
            progress.stop()
            report.print_table(console, report.Ceilings(best, model_config, trained), measured)
            if config.picture is not None and any(figures.job.what == "growth" for figures in measured):
                write_picture(Path(config.picture), measured)


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
    if not isinstance(config.machine_seconds, int | float) or config.machine_seconds <= 0:
        raise BenchError(f"machine_seconds must be a number above 0, not {config.machine_seconds!r}.")
    for key in ("batch", "contexts"):
        for number in _as_list(config[key]):
            if not isinstance(number, int) or number < 1:
                raise BenchError(f"{key} must be made of whole numbers of at least 1, not {number!r}.")
    prompts = {"prefill": [config.prefill_tokens], "growth": cast("list[int]", _as_list(config.contexts))}
    return [
        Job(name, cast("int", batch), prompt_tokens, config.new_tokens, config.repeats)
        for name in names
        for batch in _as_list(config.batch)
        for prompt_tokens in prompts.get(name, [config.prompt_tokens])
    ]


def _places(config: DictConfig) -> dict[str, str]:
    places = {
        str(name): str(Path(str(path)).expanduser()) for name, path in config.programs.items() if path is not None
    }
    for name, path in places.items():
        if name in INTERPRETERS and not os.access(path, os.X_OK):
            raise BenchError(f"programs.{name} must be the Python of a virtual environment, not {path!r}.")
    return places


def _programs(config: DictConfig, places: Mapping[str, str]) -> list[str]:
    peers = _names(config, "peer", PROGRAMS)
    for peer in peers:
        if peer in PACKAGES and peer not in places and find_spec(PACKAGES[peer]) is None:
            raise BenchError(
                f"peer={peer} is not installed; `pip install 'resonance[bench]'` brings all but openvino, or "
                f"programs.{peer} names the Python of a virtual environment that has it (see BENCHMARKS.md)."
            )
    if "llamacpp" in peers and not llama_cpp.is_built(folder := Path(places.get("llamacpp", default_folder()))):
        raise BenchError(
            f"peer=llamacpp finds no llama-batched-bench and llama-server in {folder}; "
            "`python -m resonance.bench.peers.build_llama_cpp` builds them."
        )
    if "nanogpt" in peers and not (Path(places.get("nanogpt", "")) / "model.py").is_file():
        raise BenchError("peer=nanogpt needs programs.nanogpt: the folder of a checkout of nanoGPT, with its model.py.")
    return ["resonance", *chain.from_iterable(PROGRAMS[peer] for peer in peers)]


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
            **examples.ROW_LENGTH,
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
