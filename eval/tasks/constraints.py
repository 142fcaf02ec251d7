"""Verifiable instructions: whether answers follow constraints that code can check."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.constraints.constraint import follows_loosely, follows_strictly
from eval.constraints.prompts import ConstrainedPrompt, make_prompts
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import DOES_NOT_FIT, Item, MetricSpec, Record, in_chunks, item_id, overflow_note, prompt_hash
from eval.tasks.generation import BATCHES_PER_CHUNK, Generated, generate_answers
from resonance.chat_template import Message


@dataclass(frozen=True, slots=True)
class Constraints:
    """The share of prompts, and of single instructions, that greedy answers follow; by level as well.

    `strict` checks the answer as it is. `loose` also accepts it without its first line, its last line, or Markdown's
    emphasis. A prompt is followed if each of its instructions is. `basic`, `single` and `combined` are the numbers of
    prompts of each level (see `ConstrainedPrompt`), and `seed` generates them. A prompt that does not fit into the
    context window counts as not followed; a note says how many.

    The idea of checkable instructions, in both readings and on both levels, is that of Zhou et al. 2023 (IFEval);
    prompts and checkers are ours, so scores do not compare with IFEval's.
    """

    basic: int
    single: int
    combined: int
    max_new_tokens: int
    seed: int
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = False

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Strict and loose, of prompts and of instructions."""
        return {
            "prompt_strict": MetricSpec("proportion", share=True, by_group=True),
            "prompt_loose": MetricSpec("proportion", share=True),
            "instruction_strict": MetricSpec("ratio", share=True),
            "instruction_loose": MetricSpec("ratio", share=True),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[ConstrainedPrompt]]:
        """One item per prompt."""
        prompts = make_prompts(basic=self.basic, single=self.single, combined=self.combined, seed=self.seed)
        return [
            Item(item_id(prompt.text, [repr(each) for each in prompt.constraints]), prompt, prompt.text, prompt.level)
            for prompt in prompts
        ]

    def run(self, model: EvaluatedModel, items: Sequence[Item[ConstrainedPrompt]]) -> Iterator[Record]:
        """Answer each prompt in its own conversation, and check."""
        for chunk in in_chunks(items, model.batch_size * BATCHES_PER_CHUNK):
            conversations = [[Message("user", item.content.text)] for item in chunk]
            answers = generate_answers(model, conversations, self.max_new_tokens)
            for item, generated in zip(chunk, answers, strict=True):
                yield _record(item, generated)

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of prompts that do not fit."""
        return overflow_note(records, "prompts", "count as not followed")


def _record(item: Item[ConstrainedPrompt], generated: Generated | None) -> Record:
    """The checked answer; `generated` is None if the prompt does not fit."""
    constraints = item.content.constraints
    answer = "" if generated is None else generated.completion.text.strip()
    strict = [follows_strictly(constraint, answer) for constraint in constraints]
    loose = [follows_loosely(constraint, answer) for constraint in constraints]
    checked = [
        {"kind": constraint.kind, "asked": constraint.wordings[0], "strict": strict[i], "loose": loose[i]}
        for i, constraint in enumerate(constraints)
    ]
    return Record(
        item=item.id,
        observations={
            "prompt_strict": (float(all(strict)), 1.0),
            "prompt_loose": (float(all(loose)), 1.0),
            "instruction_strict": (float(sum(strict)), float(len(strict))),
            "instruction_loose": (float(sum(loose)), float(len(loose))),
        },
        group=item.group,
        question=item.content.text,
        answer=answer,
        correct=all(strict),
        prompt_sha256=generated and prompt_hash(generated.prompt_ids),
        details={"constraints": checked} if generated else {"constraints": checked, DOES_NOT_FIT: True},
    )
