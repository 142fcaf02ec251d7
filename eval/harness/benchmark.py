"""Compares the speed of the harness on our engine and on its own `hf` model: `python -m eval.harness.benchmark`.

Both get the same made-up requests of each kind and the same random GPT-2 (`model=gpt2` by default), in turns, so that a
busy moment of the machine slows both. The table has medians, and the largest difference of any log-likelihood in the
last round.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.harness.definitions import harness_version, quiet
from resonance.bench.workloads.synthetic_text import single_token_words
from resonance.checkpoint import Checkpoint
from resonance.metadata import Metadata
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.tokenizer import Tokenizer

MODELS = {"nano": GPT2Config(n_layer=2, n_head=2, n_embd=64), "gpt2": GPT2Config()}
HF_BATCHES = (1, 8)  # sequences; padding makes larger batches slower on a CPU, and the faster of these counts


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one kind; `work` says how many of what."""

    name: str
    work: str
    ask: str  # the method of a model
    requests: Sequence[tuple[Any, ...]]


def workloads(questions: int, seed: int) -> list[Workload]:
    """Requests like those of HellaSwag, LAMBADA, WikiText and IFEval; `questions` scales all of them.

    Each round needs a `seed` of its own, or the engine would find the prompts of the round before in its cache.
    """
    rng, words = random.Random(seed), [*single_token_words()]

    def text(tokens: int) -> str:
        return "".join(rng.choice(words) for _ in range(tokens)).strip()

    contexts = [text(60) for _ in range(questions)]
    choices = [(context, " " + text(20)) for context in contexts for _ in range(4)]
    last_words = [(text(75), " " + text(1)) for _ in range(2 * questions)]
    documents = [(text(2000),) for _ in range(max(1, questions // 10))]
    settings = {"until": ["\n\n"], "max_gen_toks": 48, "do_sample": False}
    prompts = [(text(60), dict(settings)) for _ in range(max(1, questions // 2))]
    return [
        Workload("multiple choice", f"{questions} questions, 4 choices of 20 tokens", "loglikelihood", choices),
        Workload("log-likelihood", f"{len(last_words)} last words after 75 tokens", "loglikelihood", last_words),
        Workload("rolling", f"{len(documents)} text(s) of 2,000 tokens", "loglikelihood_rolling", documents),
        Workload("generation", f"{len(prompts)} prompts, 48 tokens each", "generate_until", prompts),
    ]


def main(arguments: Sequence[str]) -> None:
    """Measure and print a Markdown table. Raises EvalError for an unknown setting, or without the harness."""
    settings = _settings(arguments)
    version = harness_version()
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]  # extra lm-eval

    from eval.harness.lm import EngineLM

    with TemporaryDirectory(prefix="resonance-harness-") as folder:
        torch.manual_seed(0)
        model = GPT2(MODELS[settings["model"]])
        saved = Checkpoint.save(Path(folder) / "random", model, Tokenizer.gpt2(), Metadata())
        del model
        with quiet():
            models: dict[str, Any] = {
                f"hf, batch {size}": HFLM.create_from_arg_obj(
                    {"pretrained": str(saved.folder), "device": "cpu", "dtype": "float32", "batch_size": size}
                )
                for size in HF_BATCHES
            }
        models["resonance"] = EngineLM(EvaluatedModel.load("random", saved, batch_size=16, dtype="fp32", quantize=None))
        print(f"{settings['model']}, fp32, {torch.get_num_threads()} threads, lm_eval {version}\n")
        print(f"| requests | {' | '.join(f'{name}, s' for name in models)} | faster | largest difference |")
        print("|---|" + "---:|" * (len(models) + 2))
        rounds = [workloads(int(settings["questions"]), seed) for seed in range(int(settings["rounds"]))]
        for rounds_of_kind in zip(*rounds, strict=True):
            print(_row(rounds_of_kind, models), flush=True)


def _row(rounds: Sequence[Workload], models: Mapping[str, Any]) -> str:
    seconds: dict[str, list[float]] = {name: [] for name in models}
    answers: dict[str, Sequence[Any]] = {}
    for workload in rounds:
        for name, model in models.items():
            ask: Callable[..., Sequence[Any]] = getattr(model, workload.ask)
            requests = _instances(workload)
            started = time.perf_counter()
            with quiet():
                answers[name] = ask(requests, disable_tqdm=True)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ours = medians["resonance"]
    best = min(value for name, value in medians.items() if name != "resonance")
    workload = rounds[-1]
    cells = [f"{workload.name}: {workload.work}", *(f"{value:.2f}" for value in medians.values())]
    return f"| {' | '.join(cells)} | {best / ours:.1f}x | {_difference(workload, answers)} |"


def _instances(workload: Workload) -> list[Any]:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]  # extra lm-eval

    kind: Any = workload.ask
    return [Instance(kind, {}, arguments, 0) for arguments in workload.requests]


def _difference(workload: Workload, answers: Mapping[str, Sequence[Any]]) -> str:
    """The largest difference of ours from the harness's, of log-likelihoods or in generated texts."""
    ours, theirs = answers["resonance"], next(iter(answers.values()))
    if workload.ask == "generate_until":
        other = sum(one != another for one, another in zip(ours, theirs, strict=True))
        return f"{other} of {len(ours)} texts"
    values = [[each[0] if isinstance(each, tuple) else each for each in side] for side in (ours, theirs)]
    return f"{max(abs(one - another) for one, another in zip(*values, strict=True)):.0e} nats"


def _settings(arguments: Sequence[str]) -> dict[str, str]:
    settings = {"model": "gpt2", "questions": "40", "rounds": "3"}
    for argument in arguments:
        name, _, value = argument.partition("=")
        whole = value.isdecimal() and int(value) > 0
        if name not in settings or not (value in MODELS if name == "model" else whole):
            raise EvalError(
                f"{argument!r} is no setting; there are model={'|'.join(MODELS)}, questions=N and rounds=N."
            )
        settings[name] = value
    return settings


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EvalError as error:
        sys.exit(f"error: {error}")
