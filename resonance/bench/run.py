"""`resonance bench`: programs take turns on the same weights; medians, spread, and shares of the machine's limits."""

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, ListConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from resonance.bench import machine as limits
from resonance.bench import mixed, quoting, report, train, turns
from resonance.bench.peers import MODULES, PRECISIONS
from resonance.bench.rounds import KINDS, OWN, Figures, Job, Setting, measure, takes_part
from resonance.checkpoint import Checkpoint
from resonance.engine.quantization import Precision
from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

WHAT = ("decode", "prefill", *OWN, *KINDS)
PEERS = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llamacpp": "llama.cpp"}
SIZES = ("n_layer", "n_head", "n_embd", "context_length", "tie_weights", "initializer_range")


class BenchError(ResonanceError):
    """A measurement that cannot be made."""


def main(overrides: list[str]) -> None:
    """Measure what `configs/bench.yaml` and its overrides say; print a table, write JSON."""
    config = compose("bench", overrides)
    jobs, programs, precisions = _jobs(config), _programs(config), _precisions(config)
    checkpoint = None if config.checkpoint is None else Checkpoint.find(str(config.checkpoint))
    _check_room(jobs, config.model.context_length if checkpoint is None else checkpoint.config.context_length)
    threads = config.threads or len(os.sched_getaffinity(0))
    console = report.make_console()
    console.print(f"Measuring the machine with {threads} threads ...")
    machine = limits.measure(threads)
    report.print_machine(console, machine)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with tempfile.TemporaryDirectory() as work, Progress(*columns, console=console, transient=True) as progress:
        console.print(f"Writing {config.checkpoint or config.model.name} for all programs ...")
        folder, sizes = _weights(config, checkpoint, Path(work))
        told: list[Figures] = []
        total = config.rounds * sum(
            takes_part(who, job.what, precision) for who in programs for job in jobs for precision in precisions
        )
        task = progress.add_task("Measuring", total=total)
        setting = Setting(folder, threads, config.rounds, config.turn_seconds)
        try:
            for figures in measure(programs, precisions, jobs, setting, partial(console.print, soft_wrap=True)):
                if not any(figures is known for known in told):
                    told.append(figures)
                progress.advance(task)
                if config.json is not None:
                    report.write_json(Path(config.json), machine, report.rows(told, sizes, machine))
        finally:  # what was measured before an interruption is worth seeing
            progress.stop()
            report.print_table(console, report.rows(told, sizes, machine), WHAT)


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, ListConfig) else [value]


def _jobs(config: DictConfig) -> list[Job]:
    what = [str(word) for word in _listed(config.what)]
    for word in what:
        if word not in WHAT:
            raise BenchError(f"what must be of {', '.join(WHAT)}, not {word!r}.")
    for name, least in (("rounds", 1), ("repeats", 1), ("new_tokens", 2), ("prompt_tokens", 1), ("prefill_tokens", 1)):
        if not isinstance(config[name], int) or config[name] < least:
            raise BenchError(f"{name} must be a whole number of at least {least}, not {config[name]!r}.")
    for batch in _listed(config.batch):
        if not isinstance(batch, int) or batch < 1:
            raise BenchError(f"batch must be made of whole numbers of at least 1, not {batch!r}.")
    return [
        Job(
            what=word,
            batch=cast("int", batch),
            prompt_tokens=config.prefill_tokens if word == "prefill" else config.prompt_tokens,
            new_tokens=config.new_tokens,
            repeats=config.repeats,
        )
        for word in what
        for batch in _listed(config.batch)
    ]


def _programs(config: DictConfig) -> list[str]:
    names = ["resonance"]
    for peer in (str(word) for word in _listed(config.peer)):
        if peer not in PEERS:
            raise BenchError(f"peer must be of {', '.join(PEERS)}, not {peer!r}.")
        if find_spec(MODULES[PEERS[peer]]) is None:
            raise BenchError(f"peer={peer} is not installed; `pip install 'resonance[bench]'` brings it.")
        names.append(PEERS[peer])
    return names


def _precisions(config: DictConfig) -> list[Precision]:
    wanted = [str(word) for word in _listed(config.precision)]
    known = PRECISIONS["resonance"]
    for word in wanted:
        if word not in known:
            raise BenchError(f"precision must be of {', '.join(known)}, not {word!r}.")
    return [precision for precision in known if precision in wanted]


def _check_room(jobs: Sequence[Job], context_length: int) -> None:
    # An answer that the context cuts would be taken for a fast one.
    for job in jobs:
        match job.what:
            case "prefill":
                longest = job.prompt_tokens
            case "mixed":
                longest = mixed.PROMPT[1] + mixed.ANSWER[1]
            case "turns":
                longest = turns.SHARED + turns.QUESTION
            case "quoting":
                longest = quoting.CONTEXT + job.new_tokens
            case "train":
                longest = train.ROW
            case _:
                longest = job.prompt_tokens + job.new_tokens
        if longest > context_length:
            raise BenchError(
                f"what={job.what} makes texts of {longest} tokens, but the model's context holds {context_length}; "
                "take a model with a longer one, or fewer prompt_tokens, prefill_tokens or new_tokens."
            )


def _weights(config: DictConfig, checkpoint: Checkpoint | None, work: Path) -> tuple[Path, GPT2Config]:
    # A folder that every program can read, and which stays the same for all of them.
    if checkpoint is not None:
        model, tokenizer, metadata = checkpoint.load_model(), checkpoint.load_tokenizer(), checkpoint.metadata
        return Checkpoint.save(work / "model", model, tokenizer, metadata).folder, model.config
    torch.manual_seed(0)
    sizes = {name: config.model[name] for name in SIZES}
    model = GPT2(GPT2Config(**sizes))
    return Checkpoint.save(work / "model", model, Tokenizer.gpt2()).folder, model.config
