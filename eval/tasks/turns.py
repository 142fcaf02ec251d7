"""Accuracy late in a conversation: the same questions after increasing numbers of earlier turns."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Metric
from eval.tasks.base import Advance, Answer, Result, in_chunks
from eval.text_metrics import exact_match
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams

_BATCHES_PER_CALL = 4  # large enough for the engine to refill free slots, small enough for a moving progress bar


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
    needs_examples: ClassVar[bool] = True

    def size(self, examples: Sequence[Example]) -> int:
        """One step per question and number of turns."""
        return len(self.turns) * len(self._questions(_single_turns(examples)))

    def run(self, model: EvaluatedModel, examples: Sequence[Example], advance: Advance) -> Result:
        """Answer and compare. With fewer than two conversations of one turn there are no scores, and a note says so."""
        single = _single_turns(examples)
        if len(single) < 2:
            note = f"turns: {len(single)} of {len(examples)} test examples have one turn and no context; none is asked."
            return Result({f"after_{count}": Metric.of_matches([]) for count in self.turns}, notes=(note,))
        questions = self._questions(single)
        metrics: dict[str, Metric] = {}
        answers: list[Answer] = []
        overflowed = 0
        for count in self.turns:
            texts = self._answers(
                model, [self._conversation(single, question, count) for question in questions], advance
            )
            right = [
                text is not None and exact_match(text, question.answer)
                for text, question in zip(texts, questions, strict=True)
            ]
            metrics[f"after_{count}"] = Metric.of_matches([float(is_right) for is_right in right])
            overflowed += texts.count(None)
            answers += [
                Answer(question.prompt[-1].content, text or "", question.answer, f"after {count} turns", bool(is_right))
                for question, text, is_right in zip(questions, texts, right, strict=True)
            ]
        note = f"{overflowed} questions do not fit into {model.context_length} tokens and count as wrong."
        return Result(metrics=metrics, answers=tuple(answers), notes=(note,) if overflowed else ())

    def _questions(self, single: Sequence[Example]) -> list[Example]:
        """A random sample of the questions."""
        return random.Random(self.seed).sample([*single], min(self.questions, len(single)))

    def _conversation(self, single: Sequence[Example], question: Example, count: int) -> list[Message]:
        """`count` other conversations with their correct answers, then the question."""
        rng = random.Random(f"{self.seed}/{count}/{question.prompt[-1].content}")
        others = [example for example in single if example is not question]
        earlier = [rng.choice(others) for _ in range(count)]
        return [*(message for example in earlier for message in _dialogue(example)), *_dialogue(question)[:-1]]

    def _answers(
        self, model: EvaluatedModel, conversations: Sequence[list[Message]], advance: Advance
    ) -> list[str | None]:
        """The answer at the end of each conversation; None if not even the question fits."""
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        texts: list[str | None] = []
        for chunk in in_chunks(conversations, model.batch_size * _BATCHES_PER_CALL):
            prompts = [self._prompt(model, conversation) for conversation in chunk]
            fitting = [prompt for prompt in prompts if prompt is not None]
            completions = iter(model.engine.generate(fitting, params) if fitting else ())
            texts.extend(None if prompt is None else next(completions).text.strip() for prompt in prompts)
            advance(len(chunk))
        return texts

    def _prompt(self, model: EvaluatedModel, conversation: Sequence[Message]) -> list[int] | None:
        window = model.window
        budget, history = window.prompt_budget(self.max_new_tokens), window.history_budget(self.max_new_tokens)
        try:
            return model.template.fit(conversation, budget=budget, history_budget=history).prompt_ids
        except ContextOverflow:
            return None


def _dialogue(example: Example) -> tuple[Message, ...]:
    return tuple(message for message in example.messages if message.role != "system")


def _single_turns(examples: Sequence[Example]) -> list[Example]:
    """Conversations of one question and its answer, without context."""
    return [example for example in examples if len(_dialogue(example)) == 2 and _dialogue(example)[0].context is None]
