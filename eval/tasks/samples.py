"""Sample answers to a few fixed prompts, without scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Advance, Answer, Result
from resonance.chat_template import Message
from resonance.engine import SamplingParams


@dataclass(frozen=True, slots=True)
class Samples:
    """Greedy answers to `prompts`, each in its own conversation."""

    prompts: Sequence[str]
    max_new_tokens: int
    needs_examples: ClassVar[bool] = False

    def size(self, examples: Sequence[Example]) -> int:
        """One step per prompt."""
        return len(self.prompts)

    def run(self, model: EvaluatedModel, examples: Sequence[Example], advance: Advance) -> Result:
        """Generate the answers. Raises ContextOverflow when a prompt is longer than the context window."""
        budget = model.context_length - self.max_new_tokens
        prompts = [model.template.fit([Message("user", prompt)], budget=budget).prompt_ids for prompt in self.prompts]
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        completions = model.engine.generate(prompts, params)
        advance(len(prompts))
        return Result(
            answers=tuple(
                Answer(prompt, completion.text.strip())
                for prompt, completion in zip(self.prompts, completions, strict=True)
            )
        )
