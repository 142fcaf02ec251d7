"""Greedy answers to conversations, for tasks that check what a model writes."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.evaluated_model import EvaluatedModel
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams
from resonance.engine.outputs import Completion

BATCHES_PER_CHUNK = 4  # more lets the engine refill free slots; fewer saves records more often


@dataclass(frozen=True, slots=True)
class Generated:
    """A prompt's token ids and the model's answer to it."""

    prompt_ids: Sequence[int]
    completion: Completion


def generate_answers(
    model: EvaluatedModel, conversations: Sequence[Sequence[Message]], max_new_tokens: int
) -> list[Generated | None]:
    """Answer each conversation, of which as much history is kept as on the server; None where it does not fit."""
    window = model.window
    budget, history = window.prompt_budget(max_new_tokens), window.history_budget(max_new_tokens)
    prompts: list[Sequence[int] | None] = []
    for conversation in conversations:
        try:
            prompts.append(model.template.fit(conversation, budget=budget, history_budget=history).prompt_ids)
        except ContextOverflow:
            prompts.append(None)
    fitting = [prompt for prompt in prompts if prompt is not None]
    params = [
        SamplingParams(max_new_tokens=min(max_new_tokens, model.context_length - len(prompt)), temperature=0.0)
        for prompt in fitting
    ]
    completions = iter(model.engine.generate(fitting, params))
    return [None if prompt is None else Generated(prompt, next(completions)) for prompt in prompts]
