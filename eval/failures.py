"""How an answer can fail whatever it was asked: it loops, or it shows parts of the prompt."""

from collections.abc import Sequence
from itertools import takewhile

from eval.text_metrics import words
from resonance.chat_template import ChatTemplate, Message

MIN_REPEATS = 4  # in a row, until an n-gram counts as a loop
MIN_LOOP_TOKENS = 12  # that the repeats of a short n-gram must cover
LEAKED_WORDS = 6  # in a row from the system prompt, until it counts as leaked

_CONTENTS = ("\u2402first\u2403", "\u2402second\u2403", "\u2402third\u2403")  # occur in no template


def loop_length(token_ids: Sequence[int]) -> int | None:
    """The length of the n-gram whose repeats end the sequence, the shortest if there are several; None without a loop.

    The last repeat may be cut off.
    """
    backwards = token_ids[::-1]
    for n in range(1, len(backwards) // MIN_REPEATS + 1):
        equal = takewhile(lambda pair: pair[0] == pair[1], zip(backwards, backwards[n:], strict=False))
        if n + sum(1 for _ in equal) >= max(MIN_REPEATS * n, MIN_LOOP_TOKENS):
            return n
    return None


def leaks_system_prompt(answer: str, system: str, asked: str) -> bool:
    """Whether the answer has `LEAKED_WORDS` words in a row from the system prompt that are not in what was asked."""
    ours, known = words(system), " ".join(words(asked))
    said = f" {' '.join(words(answer))} "
    runs = (" ".join(ours[i : i + LEAKED_WORDS]) for i in range(len(ours) - LEAKED_WORDS + 1))
    return any(f" {run} " in said and run not in known for run in runs)


def template_markers(template: ChatTemplate) -> list[str]:
    """The texts that a template puts around messages, such as `### Response:` and `<|im_start|>assistant`."""
    system, first, second = _CONTENTS
    conversations = (
        [Message("system", system), Message("user", first), Message("assistant", second), Message("user", first)],
        [Message("user", first, second)],
    )
    markers: dict[str, None] = dict.fromkeys(template.special_tokens)
    for conversation in conversations:
        ids = template.render(conversation, add_generation_prompt=True).input_ids
        text = template.tokenizer.decode(ids)
        for content in _CONTENTS:
            text = text.replace(content, _CONTENTS[0])
        for part in text.split(_CONTENTS[0]):
            for line in part.splitlines():
                if len(line.strip()) > 1:
                    markers[line.strip()] = None
    return list(markers)
