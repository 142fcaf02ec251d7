"""The gradient of an answer, to compare with those of training examples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resonance.chat_template import ChatTemplate, Message
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.influence.gradients import IGNORE, ProjectedGradients, adapter_of, padded


class NoAnswer(ResonanceError):
    """An answer that has no token in the context window."""


def answer_gradient(checkpoint: Checkpoint, messages: Sequence[Message], side: int) -> NDArray[np.float32]:
    """The projected gradient of the loss of the last message, (side * side,). Raises NoAnswer."""
    input_ids, labels = answer_tokens(messages, checkpoint.template(), checkpoint.config.context_length)
    gradients = ProjectedGradients(checkpoint.load_model().float(), adapter_of(checkpoint), side=side)
    return gradients(*padded([(input_ids, labels)]))[0].numpy()


def answer_tokens(
    messages: Sequence[Message], template: ChatTemplate, context_length: int
) -> tuple[list[int], list[int]]:
    """A conversation's input ids and labels, which are those of its last message, an answer.

    What does not fit into the window is left out as in training: the oldest turns, then the end. Raises NoAnswer.
    """
    system = 1 if messages[0].role == "system" else 0
    later_turns = [i for i, message in enumerate(messages) if message.role == "user" and i > system]
    input_ids: list[int] = []
    labels: list[int] = []
    for start in (system, *later_turns):
        input_ids, labels = _shifted([*messages[:system], *messages[start:]], template)
        if len(input_ids) <= context_length:
            break
    input_ids, labels = input_ids[:context_length], labels[:context_length]
    if all(label == IGNORE for label in labels) or not messages[-1].content.strip():
        raise NoAnswer("The answer is empty or does not fit the model's context window; explain a shorter one.")
    return input_ids, labels


def _shifted(messages: Sequence[Message], template: ChatTemplate) -> tuple[list[int], list[int]]:
    """Input ids, and at each position the next token if it belongs to the answer; up to the answer's last one."""
    rendered = template.render(messages)
    answer_at = len(template.render(messages[:-1], add_generation_prompt=True).input_ids)
    tokens = zip(rendered.input_ids, rendered.loss_mask, strict=True)
    labels = [token if supervised and i >= answer_at else IGNORE for i, (token, supervised) in enumerate(tokens)][1:]
    while labels and labels[-1] == IGNORE:
        labels.pop()
    return rendered.input_ids[: len(labels)], labels
