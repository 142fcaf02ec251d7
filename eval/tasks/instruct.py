"""Instruction following: answers to the test split against the expected ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Metric
from eval.tasks.base import Advance, Answer, Result, fit, in_chunks, question
from eval.text_metrics import exact_match, rouge_l, token_f1
from resonance.chat_template import Fitted
from resonance.engine import SamplingParams

_BATCHES_PER_CHUNK = 4  # more lets the engine refill free slots; fewer updates the progress bar more often


@dataclass(frozen=True, slots=True)
class Instruct:
    """Exact match (overall and by family), token F1 and ROUGE-L of greedy answers.

    A conversation is scored on its last answer, after the expected earlier ones. A question that does not fit into the
    context window counts as wrong; a note says how many.
    """

    max_new_tokens: int
    needs_examples: ClassVar[bool] = True

    def size(self, examples: Sequence[Example]) -> int:
        """One step per example."""
        return len(examples)

    def run(self, model: EvaluatedModel, examples: Sequence[Example], advance: Advance) -> Result:
        """Generate and score the answers. Raises EvalError when no question fits into the context window."""
        fitted = [fit(example, model) for example in examples]
        prompts = [prompt for prompt in fitted if prompt is not None]
        if not prompts:
            raise EvalError(
                f"None of the {len(examples)} test examples fits into a context of "
                f"{model.context_length} tokens; evaluate on data with shorter examples."
            )
        advance(len(fitted) - len(prompts))
        texts = iter(self._generate(model, prompts, advance))
        answers = [
            _answer(example, prompt, next(texts) if prompt is not None else None)
            for example, prompt in zip(examples, fitted, strict=True)
        ]
        return _result(answers, missing=len(fitted) - len(prompts), context_length=model.context_length)

    def _generate(self, model: EvaluatedModel, prompts: Sequence[Fitted], advance: Advance) -> list[str]:
        texts: list[str] = []
        for chunk in in_chunks(prompts, model.batch_size * _BATCHES_PER_CHUNK):
            params = [
                SamplingParams(
                    max_new_tokens=min(self.max_new_tokens, model.context_length - len(prompt.prompt_ids)),
                    temperature=0.0,
                )
                for prompt in chunk
            ]
            completions = model.engine.generate([prompt.prompt_ids for prompt in chunk], params)
            texts.extend(completion.text for completion in completions)
            advance(len(chunk))
        return texts


def _answer(example: Example, fitted: Fitted | None, text: str | None) -> Answer:
    """The scored answer; `text` is None if the question does not fit."""
    return Answer(
        question=question(fitted.messages if fitted else example.prompt),
        answer=text.strip() if text is not None else "",
        expected=example.answer,
        family=example.family,
        correct=text is not None and bool(exact_match(text, example.answer)),
    )


def _result(answers: Sequence[Answer], *, missing: int, context_length: int) -> Result:
    matches = Metric.of_matches([float(bool(answer.correct)) for answer in answers])
    families = sorted({answer.family for answer in answers if answer.family is not None})
    by_family = {
        family: matches.take([i for i, answer in enumerate(answers) if answer.family == family]) for family in families
    }
    pairs = [(answer.answer, answer.expected or "") for answer in answers]
    note = f"{missing} of {len(answers)} questions do not fit into {context_length} tokens and count as wrong."
    return Result(
        metrics={
            "exact_match": matches,
            "token_f1": Metric.of_means([token_f1(*pair) for pair in pairs], share=True),
            "rouge_l": Metric.of_means([rouge_l(*pair) for pair in pairs], share=True),
        },
        groups={"by_family": by_family},
        answers=tuple(answers),
        notes=(note,) if missing else (),
    )
