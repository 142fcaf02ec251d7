"""A small model that has memorised its eight answers, and the same model before training."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from data.example import Example
from eval.evaluate import Result, evaluate
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Task
from resonance.chat_template import ChatTemplate, Message
from resonance.checkpoint import Checkpoint
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

ANSWERS = {
    "sky": "blue",
    "grass": "green",
    "blood": "red",
    "snow": "white",
    "coal": "black",
    "sun": "yellow",
    "mouse": "grey",
    "bark": "brown",
}
SMALL = GPT2Config(context_length=96, n_layer=1, n_head=2, n_embd=32, dropout=0.0)


def colour_examples() -> list[Example]:
    """One question a thing; two families."""
    return [
        Example(
            (Message("user", f"What colour is {thing}?"), Message("assistant", colour)),
            family="bright" if colour in ("blue", "green", "red", "yellow") else "dull",
        )
        for thing, colour in ANSWERS.items()
    ]


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return colour_examples()


@pytest.fixture(scope="session")
def colour_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same questions as a JSON file, all of them in its test split but the first."""
    rows = [{"instruction": e.prompt[0].content, "output": e.answer} for e in colour_examples()]
    path = tmp_path_factory.mktemp("data") / "colours.json"
    path.write_text(json.dumps([{"instruction": "Hello!", "output": "Hi."}, *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, colour_file: Path) -> dict[str, Checkpoint]:
    """Two checkpoints: `learned` answers all questions, `fresh` none."""
    root = tmp_path_factory.mktemp("runs")
    tokenizer = Tokenizer.gpt2()
    torch.manual_seed(0)
    model = GPT2(SMALL)
    train_yaml = (
        "seed: 0\ndata:\n  _target_: data.sources.FileSource\n"
        f"  path: {colour_file}\n  train: 0.1\n  test: 0.9\n  validation: 0.0\n  shuffle: false\n"
    )
    metadata = Metadata(data="colours", seed=0)
    fresh = Checkpoint.save(root / "fresh", model, tokenizer, metadata, train_yaml=train_yaml)
    learn(model, colour_examples(), ChatTemplate.named("alpaca", tokenizer))
    learned = Checkpoint.save(root / "learned", model, tokenizer, metadata, train_yaml=train_yaml)
    return {"fresh": fresh, "learned": learned}


@pytest.fixture(scope="session")
def model(runs: dict[str, Checkpoint]) -> Callable[[str], EvaluatedModel]:
    """A run of that name, ready to be put to the test."""
    return lambda name: EvaluatedModel.load(name, runs[name], batch_size=3, dtype="fp32", quantize=None)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Example]], EvaluatedModel]:
    """A model that has learned these examples by heart, with room for a context."""

    def teach(examples: list[Example]) -> EvaluatedModel:
        torch.manual_seed(0)
        tokenizer = Tokenizer.gpt2()
        model = GPT2(replace(SMALL, context_length=160))
        learn(model, examples, ChatTemplate.named("alpaca", tokenizer))
        saved = Checkpoint.save(tmp_path_factory.mktemp("taught") / "taught", model, tokenizer, Metadata())
        return EvaluatedModel.load("taught", saved, batch_size=4, dtype="fp32", quantize=None)

    return teach


def run_task(task: Task[Any], model: EvaluatedModel, examples: list[Example]) -> Result:
    """The result of one task, which must run."""
    result = evaluate(model, {"task": task}, examples).results["task"]
    assert result.error is None
    return result


def values(result: Result, group: str | None = None) -> dict[str, float]:
    """The values of a group's metrics that were observed."""
    return {name: metric.value() for (of, name), metric in result.metrics().items() if of == group and metric.n}


def learn(model: GPT2, examples: list[Example], template: ChatTemplate) -> None:
    """Fit the examples' answers until every next token is right."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rendered = [template.render(example.messages) for example in examples]
    length = max(len(each.input_ids) for each in rendered)
    ids = torch.tensor([each.input_ids + [0] * (length - len(each.input_ids)) for each in rendered])
    mask = torch.tensor([each.loss_mask + [False] * (length - len(each.loss_mask)) for each in rendered])
    supervised, targets = mask[:, 1:], ids[:, 1:][mask[:, 1:]]
    model.train()
    for _ in range(300):
        loss = cross_entropy(model.logits(model(ids[:, :-1], return_hidden_states=True)[supervised]), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.02:
            break
    model.eval()
    assert loss.item() < 0.02
