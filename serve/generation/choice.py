"""One answer of a generation while it grows: its text, its calls of functions and its tokens."""

import secrets
from dataclasses import dataclass, field, replace

from resonance.retrieval.citations import CitationFilter
from resonance.tool_calling import CallPiece, ToolCallParser
from serve.api.schemas.responses import FunctionCall, ToolCallMessage
from serve.workers.messages import Token


@dataclass(slots=True)
class Choice:
    """One answer so far; `citations` removes citations of unknown sources, `prefix` is the beginning that was given.

    With `calls`, its text is split into content and calls of functions, whose pieces are kept until they are taken.
    """

    citations: CitationFilter
    prefix: str
    keeps_text: bool
    keeps_tokens: bool  # with their log-probabilities
    calls: ToolCallParser | None = None
    call_ids: list[str] = field(default_factory=list[str])
    pieces: list[CallPiece] = field(default_factory=list[CallPiece])
    text: list[str] = field(default_factory=list[str])
    tokens: list[Token] = field(default_factory=list[Token])
    token_count: int = 0
    finish_reason: str | None = None

    def add(self, token: Token) -> Token:
        """Add the next token; return it with the text that can be shown now."""
        text = self._content(token)
        token = token if text == token.text else replace(token, text=text)
        called = self.call_ids and token.finish_reason == "stop"
        self.finish_reason = "tool_calls" if called else token.finish_reason
        if self.keeps_text:
            self.text.append(text)
        if token.token_id is not None:
            self.token_count += 1
            if self.keeps_tokens:
                self.tokens.append(token)
        return token

    def _content(self, token: Token) -> str:
        """Return the content that can be shown now; keep the pieces of calls."""
        text, ends = token.text, token.finish_reason is not None
        if self.calls is not None:
            text, pieces = self.calls.feed(text)
            text += self.calls.finish() if ends else ""
            self.call_ids += [f"call_{secrets.token_hex(12)}" for piece in pieces if piece.name is not None]
            self.pieces += pieces
        return self.citations.feed(text) + (self.citations.flush() if ends else "")

    def take_pieces(self) -> list[CallPiece]:
        """Return the pieces of calls since the last time."""
        pieces, self.pieces = self.pieces, []
        return pieces

    def tool_calls(self) -> list[ToolCallMessage] | None:
        """Return the calls so far; None where there is none."""
        if self.calls is None or not self.call_ids:
            return None
        return [
            ToolCallMessage(id=id, function=FunctionCall(name=call.name, arguments=call.arguments))
            for id, call in zip(self.call_ids, self.calls.calls, strict=True)
        ]

    def generated_text(self) -> str:
        """Return what the model has generated so far."""
        return "".join(self.text)

    def answer_text(self) -> str:
        """Return the answer so far, with the given beginning."""
        return self.prefix + self.generated_text()
