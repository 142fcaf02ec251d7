"""Words that GPT-2 reads as one token each, alone and in a row: texts of a known length for any program that has it."""

import re
from collections.abc import Iterator

from resonance.tokenizer import Tokenizer

WORD = re.compile(rb" [a-z]{2,}")


def words(tokenizer: Tokenizer | None = None) -> Iterator[str]:
    """All of them, each with the space before it."""
    tokenizer = tokenizer or Tokenizer.gpt2()
    for token in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(token)
        if WORD.fullmatch(text) and tokenizer.encode(text.decode()) == [token]:
            yield text.decode()
