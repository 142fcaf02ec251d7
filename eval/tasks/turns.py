"""Whether a model still answers late in a conversation: the same questions after more and more earlier turns."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import Subject
from eval.statistics import Measure
from eval.tasks.base import Advance, Answer, Result, in_chunks
from eval.text_metrics import exact_match
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams

_FULL_BATCHES = 4  # batches handed over at once: the engine refills free places, the bar still moves


@dataclass(frozen=True, slots=True)
class Turns:
    """Exact match of greedy answers after each number of earlier `turns`, such as `after_30`.

    The questions are held-out conversations of one turn without a context, `questions` of them at most, the same after
    every number; the earlier turns are others of them with their right answers. As much of a conversation is kept as
    the server would keep. A question that does not fit counts as answered wrongly, and a note says how many.
    """

    turns: Sequence[int]
    questions: int
    max_new_tokens: int
    seed: int
    needs_examples: ClassVar[bool] = True

    def size(self, examples: Sequence[Example]) -> int:
        """One step a question and number of turns."""
        return len(self.turns) * len(self._asked(_single_turns(examples)))

    def run(self, subject: Subject, examples: Sequence[Example], advance: Advance) -> Result:
        """Ask and compare; without two conversations of one turn there are no scores, and a note says so."""
        single = _single_turns(examples)
        if len(single) < 2:
            note = f"turns: {len(single)} of {len(examples)} test examples have one turn and no context; none is asked."
            return Result({f"after_{count}": Measure.of_matches([]) for count in self.turns}, notes=(note,))
        asked = self._asked(single)
        measures: dict[str, Measure] = {}
        answers: list[Answer] = []
        unasked = 0
        for count in self.turns:
            texts = self._answers(subject, [self._talk(single, one, count) for one in asked], advance)
            right = [text is not None and exact_match(text, one.answer) for text, one in zip(texts, asked, strict=True)]
            measures[f"after_{count}"] = Measure.of_matches([float(is_right) for is_right in right])
            unasked += texts.count(None)
            answers += [
                Answer(one.prompt[-1].content, text or "", one.answer, f"after {count} turns", bool(is_right))
                for one, text, is_right in zip(asked, texts, right, strict=True)
            ]
        note = f"{unasked} questions do not fit into {subject.context_length} tokens and count as wrong."
        return Result(measures=measures, answers=tuple(answers), notes=(note,) if unasked else ())

    def _asked(self, single: Sequence[Example]) -> list[Example]:
        """The questions, spread over the families by chance alone."""
        return random.Random(self.seed).sample([*single], min(self.questions, len(single)))

    def _talk(self, single: Sequence[Example], asked: Example, count: int) -> list[Message]:
        """`count` other conversations, right answers included, and the question."""
        rng = random.Random(f"{self.seed}/{count}/{asked.prompt[-1].content}")
        others = [example for example in single if example is not asked]
        before = [rng.choice(others) for _ in range(count)]
        return [*(message for example in before for message in _spoken(example)), *_spoken(asked)[:-1]]

    def _answers(self, subject: Subject, talks: Sequence[list[Message]], advance: Advance) -> list[str | None]:
        """What the model says at the end of each conversation; None where not even the question fits."""
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        texts: list[str | None] = []
        for chunk in in_chunks(talks, subject.batch_size * _FULL_BATCHES):
            prompts = [self._prompt(subject, talk) for talk in chunk]
            fitting = [prompt for prompt in prompts if prompt is not None]
            said = iter(subject.engine.generate(fitting, params) if fitting else ())
            texts.extend(None if prompt is None else next(said).text.strip() for prompt in prompts)
            advance(len(chunk))
        return texts

    def _prompt(self, subject: Subject, talk: Sequence[Message]) -> list[int] | None:
        window = subject.window
        budget, history = window.prompt_budget(self.max_new_tokens), window.history_budget(self.max_new_tokens)
        try:
            return subject.template.fit(talk, budget=budget, history_budget=history).prompt_ids
        except ContextOverflow:
            return None


def _spoken(example: Example) -> tuple[Message, ...]:
    return tuple(message for message in example.messages if message.role != "system")


def _single_turns(examples: Sequence[Example]) -> list[Example]:
    """Conversations of one question and its answer, which stand by themselves."""
    return [example for example in examples if len(_spoken(example)) == 2 and _spoken(example)[0].context is None]
