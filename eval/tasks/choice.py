"""Multiple choice by likelihood: the model's choice is the one that it finds most likely."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from data.example import Example
from eval import EvalError
from eval.choice_items import ChoiceQuestion, questions_of, read_questions
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import DOES_NOT_FIT, Item, MetricSpec, Record, in_chunks, item_id, overflow_note, prompt_hash
from resonance.chat_template import Message

_BATCHES_PER_CHUNK = 2  # questions, each with several choices


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question, and the solved questions that stand before it."""

    question: ChoiceQuestion
    shots: tuple[ChoiceQuestion, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Accuracy of the likeliest choice: by log-likelihood (`acc`), and by log-likelihood per byte (`acc_norm`).

    Args:
        path: a JSONL file (see `read_questions`). None: questions made of the test split, whose wrong choices are the
            answers to similar questions.
        format: `chat` scores each choice as the assistant's whole answer, its end token included, after the question
            in the model's chat template; `raw` scores it as the continuation of plain text.
        prompt: the raw text before a choice; `{question}` stands for the question.
        shots: the number of solved questions before each question, in a random order drawn by `seed`.
        shots_path: the file of the solved questions; None: the other questions of the same set.
        distractors: the wrong choices per question made of the test split, where there are that many.
        seed: draws shots, and the order of the choices made of the test split.

    Raises EvalError for a setting that it does not know.
    """

    path: str | None = None
    format: Literal["chat", "raw"] = "chat"
    prompt: str = "{question}"
    shots: int = 0
    shots_path: str | None = None
    distractors: int = 3
    seed: int = 0
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.format not in ("chat", "raw"):
            raise EvalError(f"format must be chat or raw, not {self.format!r}.")
        if "{question}" not in self.prompt:
            raise EvalError(f"prompt must contain {{question}}, unlike {self.prompt!r}.")
        if self.shots < 0:
            raise EvalError(f"shots must be at least 0, not {self.shots}.")
        if self.distractors < 1:
            raise EvalError(f"distractors must be at least 1, not {self.distractors}.")

    @property
    def needs_examples(self) -> bool:
        """Whether the questions are made of the test split."""
        return self.path is None

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Accuracy by likelihood, and by likelihood per byte."""
        return {
            "acc": MetricSpec("proportion", share=True, by_group=True),
            "acc_norm": MetricSpec("proportion", share=True),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[ShownQuestion]]:
        """One item per question. Raises EvalError when there are none, or too few for the shots."""
        if self.path is None:
            questions = questions_of(examples, self.distractors, self.seed)
        else:
            questions = read_questions(self.path)
        pool = questions if self.shots_path is None else read_questions(self.shots_path)
        available = len(pool) - (self.shots_path is None)
        if self.shots > available:
            raise EvalError(f"shots={self.shots} asks for more solved questions than there are, {available}.")
        seen: dict[str, int] = {}
        items: list[Item[ShownQuestion]] = []
        for question in questions:
            key = [question.text, question.choices, question.answer]
            same = seen[name] = seen.get(name := item_id(key), -1) + 1
            text = f"{question.text}\n{question.choices[question.answer]}"
            content = ShownQuestion(question, self._shots(question, name, pool))
            items.append(Item(item_id(key, same) if same else name, content, text, question.group))
        return items

    def run(self, model: EvaluatedModel, items: Sequence[Item[ShownQuestion]]) -> Iterator[Record]:
        """Score every choice of every question."""
        for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CHUNK):
            asked = [self._ask(model, item.content) for item in chunk]
            pairs = [(each.prompt, ids) for each in asked if each is not None for ids in each.continuations]
            scored = iter(model.engine.score(pairs) if pairs else ())
            for item, each in zip(chunk, asked, strict=True):
                if each is None:
                    yield _record(item, None, ())
                else:
                    yield _record(item, each, [sum(next(scored)) for _ in each.continuations])

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The score of guessing, and the number of questions that do not fit."""
        chances = [1 / len(choices) for r in records if isinstance(choices := r.details.get("choices"), list)]
        if not chances:
            return ()
        guessing = f"Guessing scores {100 * sum(chances) / len(chances):.1f}% in multiple choice."
        return (guessing, *overflow_note(records, "questions", "count as wrong"))

    def _shots(self, question: ChoiceQuestion, name: str, pool: Sequence[ChoiceQuestion]) -> tuple[ChoiceQuestion, ...]:
        """Solved questions, drawn for one question; never itself."""
        rng = random.Random(f"{self.seed}/{name}")
        drawn: dict[int, ChoiceQuestion] = {}
        while len(drawn) < min(len(pool), self.shots + 1):
            index = rng.randrange(len(pool))
            drawn.setdefault(index, pool[index])
        others = [each for each in drawn.values() if each is not question]
        return tuple(others[: self.shots])

    def _ask(self, model: EvaluatedModel, shown: ShownQuestion) -> "_Asked | None":
        """The token ids of the prompt and of each choice; None if they do not fit even without shots."""
        for first in range(len(shown.shots) + 1):
            kept = replace(shown, shots=shown.shots[first:])
            asked = self._raw(model, kept) if self.format == "raw" else self._chat(model, kept)
            longest = max(map(len, asked.continuations))
            if len(asked.prompt) + longest - 1 <= model.context_length:
                return asked
        return None

    def _raw(self, model: EvaluatedModel, shown: ShownQuestion) -> "_Asked":
        solved = [f"{self._text(shot)} {shot.choices[shot.answer].strip()}" for shot in shown.shots]
        prompt = model.tokenizer.encode("\n\n".join([*solved, self._text(shown.question)]))
        return _Asked(prompt, [model.tokenizer.encode(f" {choice.strip()}") for choice in shown.question.choices])

    def _text(self, question: ChoiceQuestion) -> str:
        return self.prompt.replace("{question}", question.text.strip()).rstrip()

    def _chat(self, model: EvaluatedModel, shown: ShownQuestion) -> "_Asked":
        system, turns = _without_system(shown.question.messages)
        solved = [
            message
            for shot in shown.shots
            for message in (*_without_system(shot.messages)[1], Message("assistant", shot.choices[shot.answer]))
        ]
        messages = [*system, *solved, *turns]
        prompt = model.template.render(messages, add_generation_prompt=True).input_ids
        continuations: list[list[int]] = []
        for choice in shown.question.choices:
            rendered = model.template.render([*messages, Message("assistant", choice)])
            end = len(rendered.loss_mask) - rendered.loss_mask[::-1].index(True)
            continuations.append(rendered.input_ids[len(prompt) : end])
        return _Asked(prompt, continuations)


@dataclass(frozen=True, slots=True)
class _Asked:
    prompt: list[int]
    continuations: list[list[int]]


def _without_system(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """The system message, if any, and the other messages."""
    start = 1 if messages and messages[0].role == "system" else 0
    return messages[:start], messages[start:]


def _record(item: Item[ShownQuestion], asked: _Asked | None, logprobs: Sequence[float]) -> Record:
    """The scored question; `asked` is None if it does not fit."""
    question = item.content.question
    details: dict[str, object] = {"choices": list(question.choices), "answer": question.answer}
    if asked is None:
        details[DOES_NOT_FIT] = True
        chosen = normalised = None
    else:
        details["logprobs"] = list(logprobs)
        chosen = max(range(len(logprobs)), key=logprobs.__getitem__)
        per_byte = [value / len(choice.encode()) for value, choice in zip(logprobs, question.choices, strict=True)]
        normalised = max(range(len(logprobs)), key=per_byte.__getitem__)
    return Record(
        item=item.id,
        observations={
            "acc": (float(chosen == question.answer), 1.0),
            "acc_norm": (float(normalised == question.answer), 1.0),
        },
        group=item.group,
        cluster=item.cluster,
        question=question.text,
        answer="" if chosen is None else question.choices[chosen],
        expected=question.choices[question.answer],
        correct=chosen == question.answer,
        prompt_sha256=prompt_hash(asked.prompt) if asked else None,
        details=details,
    )
