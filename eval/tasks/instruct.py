"""Whether a model answers held-out instructions as expected, word for word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.errors import EvalError
from eval.evaluated_model import Subject
from eval.statistics import Measure
from eval.tasks.base import Advance, Answer, Result, fit, in_chunks, question
from eval.text_metrics import exact_match, rouge_l, token_f1
from resonance.chat_template import Fitted
from resonance.engine import SamplingParams

_FULL_BATCHES = 4  # batches handed over at once: the engine refills free places, the bar still moves


@dataclass(frozen=True, slots=True)
class Instruct:
    """Greedy answers against expected ones: exact match (by family too), token F1 and ROUGE-L.

    A conversation is scored on its last answer, with the expected earlier answers before it. A question
    that does not fit into the context window counts as answered wrongly, and a note says how many.
    """

    max_new_tokens: int
    needs_examples: ClassVar[bool] = True

    def size(self, examples: Sequence[Example]) -> int:
        """One step an example."""
        return len(examples)

    def run(self, subject: Subject, examples: Sequence[Example], advance: Advance) -> Result:
        """Generate and compare. Raises EvalError when no question at all fits into the context window."""
        fitted = [fit(example, subject) for example in examples]
        asked = [one for one in fitted if one is not None]
        if not asked:
            raise EvalError(
                f"None of the {len(examples)} test examples fits into a context of "
                f"{subject.context_length} tokens; evaluate on data with shorter examples."
            )
        advance(len(fitted) - len(asked))
        texts = iter(self._generate(subject, asked, advance))
        answers = [
            _answer(example, one, next(texts) if one is not None else None)
            for example, one in zip(examples, fitted, strict=True)
        ]
        return _result(answers, missing=len(fitted) - len(asked), context_length=subject.context_length)

    def _generate(self, subject: Subject, asked: Sequence[Fitted], advance: Advance) -> list[str]:
        texts: list[str] = []
        for chunk in in_chunks(asked, subject.batch_size * _FULL_BATCHES):
            params = [
                SamplingParams(
                    max_new_tokens=min(self.max_new_tokens, subject.context_length - len(one.prompt_ids)),
                    temperature=0.0,
                )
                for one in chunk
            ]
            completions = subject.engine.generate([one.prompt_ids for one in chunk], params)
            texts.extend(completion.text for completion in completions)
            advance(len(chunk))
        return texts


def _answer(example: Example, fitted: Fitted | None, text: str | None) -> Answer:
    """`text` None: the question could not be asked."""
    return Answer(
        question=question(fitted.messages if fitted else example.prompt),
        answer=text.strip() if text is not None else "",
        expected=example.answer,
        family=example.family,
        correct=text is not None and bool(exact_match(text, example.answer)),
    )


def _result(answers: Sequence[Answer], *, missing: int, context_length: int) -> Result:
    matches = Measure.of_matches([float(bool(answer.correct)) for answer in answers])
    families = sorted({answer.family for answer in answers if answer.family is not None})
    by_family = {
        family: matches.take([i for i, answer in enumerate(answers) if answer.family == family]) for family in families
    }
    pairs = [(answer.answer, answer.expected or "") for answer in answers]
    note = f"{missing} of {len(answers)} questions do not fit into {context_length} tokens and count as wrong."
    return Result(
        measures={
            "exact_match": matches,
            "token_f1": Measure.of_means([token_f1(*pair) for pair in pairs], share=True),
            "rouge_l": Measure.of_means([rouge_l(*pair) for pair in pairs], share=True),
        },
        groups={"by_family": by_family},
        answers=tuple(answers),
        notes=(note,) if missing else (),
    )
