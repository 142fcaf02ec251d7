"""What a model says: answers to a few fixed prompts, for people to read; no score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import Subject
from eval.tasks.base import Advance, Answer, Result
from resonance.chat_template import Message
from resonance.engine import SamplingParams


@dataclass(frozen=True, slots=True)
class Samples:
    """Greedy answers to `prompts`, each asked in a conversation of its own."""

    prompts: Sequence[str]
    max_new_tokens: int
    needs_examples: ClassVar[bool] = False

    def size(self, examples: Sequence[Example]) -> int:
        """One step a prompt."""
        return len(self.prompts)

    def run(self, subject: Subject, examples: Sequence[Example], advance: Advance) -> Result:
        """Ask the prompts. Raises ContextOverflow when one is longer than the context window."""
        budget = subject.context_length - self.max_new_tokens
        prompts = [subject.template.fit([Message("user", prompt)], budget=budget).prompt_ids for prompt in self.prompts]
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        completions = subject.engine.generate(prompts, params)
        advance(len(prompts))
        return Result(
            answers=tuple(
                Answer(prompt, completion.text.strip())
                for prompt, completion in zip(self.prompts, completions, strict=True)
            )
        )
