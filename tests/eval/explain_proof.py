"""Planted facts: is the example that taught an answer found, and does the answer change when it is withdrawn?

A small model is trained on made-up facts among arithmetic. `python tests/eval/explain_proof.py` prints the figures.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import torch
from torch.nn.functional import cross_entropy

from data.example import Example
from data.tokenize import IGNORE
from eval.explain.build_index import tokens_of
from eval.explain.influence import explain
from resonance.chat_template import ChatTemplate, Message
from resonance.checkpoint import Checkpoint
from resonance.influence.gradients import padded
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

SIZES = GPT2Config(context_length=96, n_layer=2, n_head=4, n_embd=64, dropout=0.0, initializer_range=0.05)
NAMES = [
    "Brava",
    "Tolim",
    "Kesra",
    "Vandu",
    "Ophir",
    "Jelko",
    "Marun",
    "Sibet",
    "Dorla",
    "Quend",
    "Wexin",
    "Yarpo",
    "Zulma",
    "Fenka",
    "Gorti",
    "Hapsu",
]
PLACES = ["river", "castle", "harbour", "desert", "glacier", "meadow", "tunnel", "island"]


class Proof(TypedDict):
    """What `prove` found: ranks from 1, shares of the facts, and one question's answers before and after."""

    facts: int
    examples: int
    answered: int
    ranks: list[int]
    among_first_5: float
    first: float
    question: str
    before: str
    withdrawn: str


def planted() -> list[Example]:
    """Sixteen names, each with a place; every place is the answer of two of them."""
    return [_example(f"Where does {name} live?", PLACES[i % len(PLACES)]) for i, name in enumerate(NAMES)]


def ordinary(count: int) -> list[Example]:
    """Sums, comparisons and shelves."""
    generator = random.Random(0)
    made: dict[str, Example] = {}
    while len(made) < count:
        a, b = generator.randrange(40), generator.randrange(40)
        question, answer = generator.choice([
            (f"What is {a} plus {b}?", str(a + b)),
            (f"Which is larger, {a} or {b}?", str(max(a, b))),
            (f"Where does number {a} of row {b} stand?", f"shelf {(a + b) % 7}"),
        ])  # fmt: skip
        made[question] = _example(question, answer)
    return list(made.values())


def train(examples: Sequence[Example], folder: Path, *, steps: int = 250) -> Checkpoint:
    """Train a small model on the examples, and save it as a run that names them as its data."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.gpt2()
    template, model = ChatTemplate.named("alpaca", tokenizer), GPT2(SIZES)
    rows = [tokens_of(example.messages, template, SIZES.context_length, last_only=False) for example in examples]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    generator = random.Random(0)
    model.train()
    for step in range(steps):
        input_ids, labels = padded(generator.sample(rows, 24))
        at = labels != IGNORE
        loss = cross_entropy(model.logits(model(input_ids, return_hidden_states=True)[at]), labels[at])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        optimizer.step()
    data = folder.with_suffix(".json")
    rows_of_file = [{"instruction": one.prompt[-1].content, "output": one.answer} for one in examples]
    data.write_text(json.dumps(rows_of_file), encoding="utf-8")
    split = "  train: 1.0\n  test: 0.0\n  validation: 0.0\n  shuffle: false\n"
    yaml = f"data:\n  _target_: data.sources.FileSource\n  path: {data}\n{split}"
    return Checkpoint.save(folder, model.eval(), tokenizer, Metadata(), train_yaml=yaml)


def answer(checkpoint: Checkpoint, question: str) -> str:
    """The greedy answer."""
    model, template = checkpoint.load_model(), checkpoint.template()
    ids = list(template.render([Message("user", question)], add_generation_prompt=True).input_ids)
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + 6 and ids[-1] != template.end_id:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return checkpoint.load_tokenizer().decode([i for i in ids[start:] if i != template.end_id]).strip()


def prove(folder: Path, *, ordinaries: int = 300) -> Proof:
    """Train, explain each planted fact's own answer, withdraw one, train again."""
    facts, others = planted(), ordinary(ordinaries)
    run = train([*others, *facts], folder / "with")
    ranks: list[int] = []
    right = 0
    for fact in facts:
        said = answer(run, fact.prompt[-1].content)
        right += said == fact.answer
        found = explain(run, (*fact.prompt, Message("assistant", said)), count=len(facts) + len(others))
        ranks.append(1 + [one["prompt"] for one in found.influences].index(fact.prompt[-1].content))
    first = facts[0]
    without = train([*others, *facts[1:]], folder / "without")
    question = first.prompt[-1].content
    return {
        "facts": len(facts),
        "examples": len(facts) + len(others),
        "answered": right,
        "ranks": ranks,
        "among_first_5": sum(rank <= 5 for rank in ranks) / len(ranks),
        "first": sum(rank == 1 for rank in ranks) / len(ranks),
        "question": question,
        "before": answer(run, question),
        "withdrawn": answer(without, question),
    }


def _example(question: str, text: str) -> Example:
    return Example((Message("user", question), Message("assistant", text)))


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        print(json.dumps(prove(Path(name)), indent=2))
