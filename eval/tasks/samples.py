"""Sample answers to a few fixed prompts, without scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Item, MetricSpec, Record, item_id, prompt_hash
from resonance.chat_template import Message
from resonance.engine import SamplingParams


@dataclass(frozen=True, slots=True)
class Samples:
    """Greedy answers to `prompts`, each in its own conversation."""

    prompts: Sequence[str]
    max_new_tokens: int
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = False

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """None."""
        return {}

    def items(self, examples: Sequence[Example]) -> Sequence[Item[str]]:
        """One item per prompt; `examples` is not used."""
        return [Item(item_id(prompt), prompt, prompt) for prompt in dict.fromkeys(self.prompts)]

    def run(self, model: EvaluatedModel, items: Sequence[Item[str]]) -> Iterator[Record]:
        """Generate the answers. Raises ContextOverflow when a prompt is longer than the context window."""
        budget = model.context_length - self.max_new_tokens
        prompts = [model.template.fit([Message("user", item.content)], budget=budget).prompt_ids for item in items]
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        completions = model.engine.generate(prompts, params) if prompts else []
        for item, prompt, completion in zip(items, prompts, completions, strict=True):
            answer = completion.text.strip()
            yield Record(item.id, {}, question=item.content, answer=answer, prompt_sha256=prompt_hash(prompt))

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """None."""
        return ()
