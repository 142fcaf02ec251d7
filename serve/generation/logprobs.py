"""Log-probabilities in OpenAI's two forms: a list of tokens for chats, parallel lists for raw completions."""

from collections.abc import Sequence

from resonance.tokenizer import Tokenizer
from serve.api.schemas.responses import Alternative, CompletionLogprobs, TokenLogprob
from serve.workers.messages import Score, Token

LEAST = -9999.0  # JSON has no minus infinity


def logprob_of(token: Token, tokenizer: Tokenizer) -> TokenLogprob:
    """One token's log-probabilities as chats have them."""
    assert token.token_id is not None and token.logprob is not None
    chosen = _alternative(token.token_id, token.logprob, tokenizer)
    others = [_alternative(token_id, logprob, tokenizer) for token_id, logprob in token.top_logprobs or ()]
    return TokenLogprob(token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=others)


class TokenLists:
    """Gathers a raw completion's parallel lists; `offset` is where in the text the next token begins."""

    def __init__(self, tokenizer: Tokenizer, offset: int = 0) -> None:
        self.offset = offset
        self.lists = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        self._tokenizer = tokenizer

    def add_prompt(self, ids: Sequence[int], scores: Sequence[Score | None]) -> None:
        """Tokens of a prompt with their scores; None where there is none."""
        for token_id, score in zip(ids, scores, strict=True):
            self._add(token_id, *(score or (None, None)))

    def add(self, token: Token) -> None:
        """One generated token; also the one that ends a text, as programs count on an entry for each token made."""
        if token.token_id is not None:
            self._add(token.token_id, token.logprob, token.top_logprobs)

    def _add(self, token_id: int, logprob: float | None, top: Sequence[tuple[int, float]] | None) -> None:
        text = _text(token_id, self._tokenizer)
        best = None
        if logprob is not None:
            best = {_text(other, self._tokenizer): max(value, LEAST) for other, value in top or ()}
        self.lists.tokens.append(text)
        self.lists.token_logprobs.append(None if logprob is None else max(logprob, LEAST))
        self.lists.top_logprobs.append(best)
        self.lists.text_offset.append(self.offset)
        self.offset += len(text)


def _alternative(token_id: int, logprob: float, tokenizer: Tokenizer) -> Alternative:
    data = tokenizer.token_bytes(token_id)
    return Alternative(token=data.decode("utf-8", "replace"), logprob=max(logprob, LEAST), bytes=list(data))


def _text(token_id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.token_bytes(token_id).decode("utf-8", "replace")
