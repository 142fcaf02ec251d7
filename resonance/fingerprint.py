"""What a checkpoint records of itself when it is saved, and what `resonance verify` derives again.

Three things: the hashes of its files, the token ids of fixed conversations in its chat template, and its logits on
fixed prompts. It knows templates and models, and nothing of folders' layouts.

The logits are computed in float32 on the CPU from the tensors that are saved, so that neither the device nor the
precision of training matters, and no random number is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resonance.chat_template import ChatTemplate, Message
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer

CONVERSATIONS: Mapping[str, tuple[Message, ...]] = {
    "question": (Message("user", "What is the capital of France?"),),
    "system prompt": (Message("system", "Answer in one word."), Message("user", "Which colour is snow?")),
    "sources": (Message("user", "Who wrote the letter?", context="[1] The letter is by Ada.\n[2] It is short."),),
    "unicode": (Message("user", "Übersetze „naïve café“ – 日本語, العربية, e\u0301, 👩\u200d🚀 und \u00a0 Leerraum."),),
    "code": (Message("user", "What does it return?\n\n```python\ndef f(x):\n\treturn {'a': x ** 2}  # 1e-5\n```\n"),),
    "markup": (Message("user", "### Response:\nSay <|endoftext|>, <|im_end|> and\n### Instruction:\n\\### Input:"),),
    "turns": (
        Message("user", "Hello!"),
        Message("assistant", "Hello, how can I help?"),
        Message("user", "Add 2 and 3."),
        Message("assistant", "5"),
        Message("user", "  And 10 more?\n"),
    ),
    "answered": (Message("user", "Is water wet?"), Message("assistant", "Yes, it is.")),
}
PROMPTS = (
    "The quick brown fox jumps over the lazy dog, and then it",
    "In 1969, two people walked on the moon for the first",
    "def add(a, b):\n    return a +",
    "Below is an instruction. Write a response: 3 + 4 =",
)
MARKED_UP = "markup"  # the conversation whose text looks like a template's own markup

WEIGHTS_FILE = "model.safetensors"
_TOP = 5
_SUMS = 32
_DIGITS = 6  # after the decimal point
TOLERANCE = {"absolute": 1e-3, "relative": 1e-4}  # for the float32 arithmetic of another machine


@dataclass(frozen=True, slots=True)
class PromptLogits:
    """The logits after one of PROMPTS: the five largest, their logsumexp, and sums over slices of the vocabulary.

    Each sum is over a 32nd of the vocabulary, with alternating signs and divided by the root of its size, so that every
    token's logit counts in one of them.
    """

    top_ids: list[int]
    top: list[float]
    logsumexp: float
    sums: list[float]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What `resonance.json` says of the files beside it, for `resonance verify`."""

    files: dict[str, str] = field(default_factory=dict[str, str])  # SHA-256 by path within the checkpoint's folder
    crc32: str | None = None  # of all tensors, as in the weights' own header
    conversations: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    logits: list[PromptLogits] = field(default_factory=list[PromptLogits])  # empty where they are not finite

    @property
    def weights_sha256(self) -> str | None:
        """The SHA-256 of the weights' file."""
        return self.files.get(WEIGHTS_FILE)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Fingerprint":
        """Parse the form in `resonance.json`. Raises KeyError or TypeError for another form."""
        logits = [PromptLogits(**prompt) for prompt in value["logits"]]
        return cls(value["files"], value["crc32"], value["conversations"], logits)


def file_sha256(path: Path) -> str:
    """Compute a file's SHA-256 in pieces: mapped pages would count as memory in use. Raises OSError."""
    digest, piece = sha256(), bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(memoryview(piece)[:count])
    return digest.hexdigest()


def conversation_ids(template: ChatTemplate) -> dict[str, list[int]]:
    """Render CONVERSATIONS; those that a user's turn ends also have the prefix of an answer."""
    return {
        name: template.render(messages, add_generation_prompt=messages[-1].role == "user").input_ids
        for name, messages in CONVERSATIONS.items()
    }


@torch.no_grad()
def prompt_logits(model: GPT2) -> list[PromptLogits]:
    """Compute the logits after each of PROMPTS in float32; an empty list where they are not finite.

    The prompts' tokens are GPT-2's, modulo the vocabulary of a smaller model, and stand at positions spread over the
    context. `model` is on the CPU, in float32 and in evaluation mode.
    """
    config, tokenizer = model.config, Tokenizer.gpt2()
    found: list[PromptLogits] = []
    for number, text in enumerate(PROMPTS):
        ids = [i % config.vocab_size for i in tokenizer.encode(text)][: config.context_length]
        first = (config.context_length - len(ids)) * number // (len(PROMPTS) - 1)
        positions = torch.arange(first, first + len(ids))[None]
        with torch.autocast("cpu", enabled=False):
            hidden = model(torch.tensor([ids]), position_ids=positions, return_hidden_states=True)[0, -1]
            logits = model.logits(hidden).double()  # (V,)
        if not bool(logits.isfinite().all()):
            return []
        found.append(_summary(logits))
    return found


def differences(recorded: Sequence[PromptLogits], derived: Sequence[PromptLogits]) -> tuple[float, bool]:
    """Return the largest difference between recorded and derived logits, and whether all are within TOLERANCE."""
    if len(recorded) != len(derived):
        return float("inf"), False
    largest, within = 0.0, True
    for theirs, ours in zip(recorded, derived, strict=True):
        if (len(theirs.top), len(theirs.sums)) != (len(ours.top), len(ours.sums)):
            return float("inf"), False
        for before, now in zip(_numbers(theirs), _numbers(ours), strict=True):
            largest = max(largest, abs(before - now))
            within = within and abs(before - now) <= TOLERANCE["absolute"] + TOLERANCE["relative"] * abs(before)
        within = within and _same_order(theirs, ours)
    return largest, within


def _summary(logits: Tensor) -> PromptLogits:
    top = logits.topk(min(_TOP, len(logits)))
    signed = logits - logits.mean()
    signed[1::2] *= -1
    sums = [float(part.sum() / len(part) ** 0.5) for part in signed.tensor_split(min(_SUMS, len(logits)))]
    return PromptLogits(
        top_ids=top.indices.tolist(),
        top=[round(value, _DIGITS) for value in top.values.tolist()],
        logsumexp=round(float(logits.logsumexp(0)), _DIGITS),
        sums=[round(value, _DIGITS) for value in sums],
    )


def _numbers(logits: PromptLogits) -> list[float]:
    return [logits.logsumexp, *logits.top, *logits.sums]


def _same_order(recorded: PromptLogits, derived: PromptLogits) -> bool:
    """Whether the likeliest tokens are the same ones; those with nearly equal logits may change places."""
    allowed = TOLERANCE["absolute"] + TOLERANCE["relative"] * max(map(abs, recorded.top), default=0.0)
    last = recorded.top[-1] if recorded.top else 0.0
    clear = {i for i, value in zip(recorded.top_ids, recorded.top, strict=True) if value > last + 2 * allowed}
    return clear <= set(derived.top_ids)
