"""Text from tokens as they come: knows bytes and stop strings, nothing of models."""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Detokenizer:
    """Turns one request's tokens into text, piece by piece.

    The pieces joined are the text of all tokens (malformed UTF-8 replaced, as `bytes.decode` does it) up to the
    first stop string. Held back is only what may still change: the bytes of an unfinished character, and an
    end of the text with which a stop string begins.
    """

    token_bytes: Callable[[int], bytes]
    stop: Sequence[str] = ()
    text: str = ""  # everything given out
    stopped: bool = False  # a stop string was met; what follows is ignored
    _held: str = ""
    _ends: list[int] = field(default_factory=list[int])  # how many characters are there after each token
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def add(self, token_id: int) -> str:
        """Take one more token; return the text that is now certain."""
        if self.stopped:
            return ""
        new = self._decoder.decode(self.token_bytes(token_id))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(new))
        return self._give(new, last=False)

    def finish(self) -> str:
        """No token follows: return what was held back."""
        return "" if self.stopped else self._give(self._decoder.decode(b"", final=True), last=True)

    @property
    def tokens_in_text(self) -> int:
        """How many of the tokens have a share in `text`: those that begin before its end."""
        kept = len(self._ends)
        while self.stopped and kept and (self._ends[kept - 2] if kept > 1 else 0) >= len(self.text):
            kept -= 1
        return kept

    def _give(self, new: str, *, last: bool) -> str:
        pending = self._held + new
        found = [at for at in map(pending.find, self.stop) if at >= 0]
        self.stopped = bool(found)
        unsure = 0 if last else self._may_begin_stop(pending)
        certain = min(found) if found else len(pending) - unsure
        self._held = pending[certain:]
        self.text += pending[:certain]
        return pending[:certain]

    def _may_begin_stop(self, text: str) -> int:
        # The length of the longest end of `text` that is a proper beginning of a stop string.
        longest = 0
        for stop in self.stop:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
