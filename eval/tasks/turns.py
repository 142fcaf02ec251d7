"""Accuracy late in a conversation: the same questions after increasing numbers of earlier turns."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import DOES_NOT_FIT, Item, MetricSpec, Record, in_chunks, item_id, overflow_note, prompt_hash
from eval.text_metrics import exact_match
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams

_BATCHES_PER_CALL = 4  # large enough for the engine to refill free slots, small enough to save records often


@dataclass(frozen=True, slots=True)
class LateQuestion:
    """A question after a number of earlier turns: the conversation up to it, and the expected answer."""

    earlier_turns: int
    messages: Sequence[Message]
    answer: str


@dataclass(frozen=True, slots=True)
class Turns:
    """Exact match of greedy answers after each number of earlier `turns`, such as `after_30`.

    The questions are at most `questions` held-out conversations of one turn without context, the same for every number
    of turns; the earlier turns are others of them with their correct answers. History is cut as on the server.
    A question that does not fit counts as wrong, and a note gives their number.
    """

    turns: Sequence[int]
    questions: int
    max_new_tokens: int
    seed: int
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = True

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Exact match by number of earlier turns."""
        return {f"after_{count}": MetricSpec("proportion", share=True) for count in self.turns}

    def items(self, examples: Sequence[Example]) -> Sequence[Item[LateQuestion]]:
        """One item per number of turns and question. Raises EvalError with fewer than two conversations of one turn."""
        single = _single_turns(examples)
        if len(single) < 2:
            raise EvalError(
                f"{len(single)} of {len(examples)} test examples have one turn and no context, and at least 2 are "
                "needed; choose other data with data=NAME, or leave this task out."
            )
        questions = random.Random(self.seed).sample([*single], min(self.questions, len(single)))
        return [
            self._item(single, place, question, count)
            for count in self.turns
            for place, question in enumerate(questions)
        ]

    def run(self, model: EvaluatedModel, items: Sequence[Item[LateQuestion]]) -> Iterator[Record]:
        """Answer and compare."""
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CALL):
            prompts = [self._prompt(model, item.content.messages) for item in chunk]
            fitting = [prompt for prompt in prompts if prompt is not None]
            completions = iter(model.engine.generate(fitting, params) if fitting else ())
            for item, prompt in zip(chunk, prompts, strict=True):
                yield _record(item, prompt, None if prompt is None else next(completions).text.strip())

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of questions that do not fit."""
        return overflow_note(records, "questions", "count as wrong")

    def _item(self, single: Sequence[Example], place: int, question: Example, count: int) -> Item[LateQuestion]:
        messages = self._conversation(single, question, count)
        asked = messages[-1].content
        key = item_id(asked, question.answer, place)
        return Item(
            id=item_id([[message.role, message.content] for message in messages], question.answer, place),
            content=LateQuestion(count, messages, question.answer),
            text=f"{asked}\n{question.answer}",
            group=f"after {count} turns",
            cluster=key,
        )

    def _conversation(self, single: Sequence[Example], question: Example, count: int) -> list[Message]:
        """`count` other conversations with their correct answers, then the question."""
        rng = random.Random(f"{self.seed}/{count}/{question.prompt[-1].content}")
        others = [example for example in single if example is not question]
        earlier = [rng.choice(others) for _ in range(count)]
        return [*(message for example in earlier for message in _dialogue(example)), *_dialogue(question)[:-1]]

    def _prompt(self, model: EvaluatedModel, conversation: Sequence[Message]) -> list[int] | None:
        window = model.window
        budget, history = window.prompt_budget(self.max_new_tokens), window.history_budget(self.max_new_tokens)
        try:
            return model.template.fit(conversation, budget=budget, history_budget=history).prompt_ids
        except ContextOverflow:
            return None


def _record(item: Item[LateQuestion], prompt: Sequence[int] | None, text: str | None) -> Record:
    """The scored answer; `prompt` and `text` are None if the question does not fit."""
    asked = item.content
    right = text is not None and bool(exact_match(text, asked.answer))
    return Record(
        item=item.id,
        observations={f"after_{asked.earlier_turns}": (float(right), 1.0)},
        group=item.group,
        cluster=item.cluster,
        question=asked.messages[-1].content,
        answer=text or "",
        expected=asked.answer,
        correct=right,
        prompt_sha256=None if prompt is None else prompt_hash(prompt),
        details={} if prompt is not None else {DOES_NOT_FIT: True},
    )


def _dialogue(example: Example) -> tuple[Message, ...]:
    return tuple(message for message in example.messages if message.role != "system")


def _single_turns(examples: Sequence[Example]) -> list[Example]:
    """Conversations of one question and its answer, without context."""
    return [example for example in examples if len(_dialogue(example)) == 2 and _dialogue(example)[0].context is None]
