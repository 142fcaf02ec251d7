"""Words that are one GPT-2 token each, alone and in a sequence: text of a known length for every program."""

import re
from collections.abc import Iterator

from resonance.tokenizer import Tokenizer

WORD = re.compile(rb" [a-z]{2,}")


def single_token_words(tokenizer: Tokenizer | None = None) -> Iterator[str]:
    """Every such word, with a leading space."""
    tokenizer = tokenizer or Tokenizer.gpt2()
    for token in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(token)
        if WORD.fullmatch(text) and tokenizer.encode(text.decode()) == [token]:
            yield text.decode()
