"""What a request may ask of sampling, checked once when it is written down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from resonance.errors import ResonanceError

LogitsProcessor = Callable[[Sequence[int], Tensor], Tensor]
"""Called for each new token with the ids generated so far and their logits (vocab_size,); returns logits."""


class EngineError(ResonanceError):
    """A request that the engine cannot serve, in one sentence."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request's tokens are chosen.

    Filters apply in the order temperature, top_k, top_p, min_p, typical_p, each on the survivors of the one
    before, renormalised. Raises EngineError naming the first value out of its range.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0  # 0 takes the likeliest token
    top_k: int = 0  # the k likeliest tokens; 0: all
    top_p: float = 1.0  # the fewest likeliest tokens whose probabilities reach p (Holtzman et al. 2020)
    min_p: float = 0.0  # tokens at least min_p times as likely as the likeliest (Nguyen et al. 2024)
    typical_p: float = 1.0  # the tokens nearest to the entropy whose mass reaches p (Meister et al. 2023)
    repetition_penalty: float = 1.0  # divides positive logits of seen tokens, multiplies negative ones (CTRL, 2019)
    presence_penalty: float = 0.0  # subtracted once from tokens that were generated (OpenAI's API)
    frequency_penalty: float = 0.0  # subtracted for each time they were generated (OpenAI's API)
    logit_bias: Mapping[int, float] | None = None  # added to the logits of these ids
    banned_token_ids: tuple[int, ...] = ()  # never chosen
    forced_token_ids: tuple[int, ...] = ()  # the first new tokens, whatever the model thinks
    stop: tuple[str, ...] = ()  # the text ends before any of these
    stop_token_ids: tuple[int, ...] = ()  # these end the text as the end-of-sequence token does
    min_new_tokens: int = 0  # no end token is chosen before
    ignore_eos: bool = False  # the end-of-sequence token is like any other
    seed: int | None = None  # the same seed gives the same text, whatever else is in the batch
    logprobs: int | None = None  # log-probabilities of the chosen token and of so many alternatives; None: neither
    n: int = 1  # independent answers to one prompt
    json_schema: Mapping[str, object] | str | None = None  # the text is JSON of this schema
    regex: str | None = None  # the text matches this expression as a whole
    logits_processors: tuple[LogitsProcessor, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise EngineError(
                f"stop must be a sequence of strings, not the string {self.stop!r}; write ({self.stop!r},)."
            )
        if self.json_schema is not None and self.regex is not None:
            raise EngineError("A text cannot be held to json_schema and regex at once; give one of them.")
        for name, valid, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more"),
            ("top_k", self.top_k >= 0, "0 (no limit) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
            ("typical_p", 0 < self.typical_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "above 0"),
            ("presence_penalty", abs(self.presence_penalty) < float("inf"), "a finite number"),
            ("frequency_penalty", abs(self.frequency_penalty) < float("inf"), "a finite number"),
            ("min_new_tokens", 0 <= self.min_new_tokens <= self.max_new_tokens, "between 0 and max_new_tokens"),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, "None or 0 and more"),
            ("n", self.n >= 1, "at least 1"),
            ("stop", all(self.stop), "made of non-empty strings"),
            ("forced_token_ids", len(self.forced_token_ids) <= self.max_new_tokens, "at most max_new_tokens long"),
        ):
            if not valid:
                raise EngineError(f"{name} must be {expected}, not {getattr(self, name)!r}.")

    @property
    def shapes_logits(self) -> bool:
        """Whether anything is to be done to the logits before the likeliest or a random token is taken."""
        return bool(
            self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.logit_bias
            or self.banned_token_ids
            or self.forced_token_ids
            or self.min_new_tokens
            or self.logits_processors
        )

    @property
    def filters(self) -> bool:
        """Whether sampling leaves any token out."""
        return bool(self.top_k or self.top_p < 1 or self.min_p or self.typical_p < 1)

    def token_ids_named(self) -> dict[str, Sequence[int]]:
        """Every parameter that names token ids, for checking them against a vocabulary."""
        return {
            "logit_bias": tuple(self.logit_bias or ()),
            "banned_token_ids": self.banned_token_ids,
            "forced_token_ids": self.forced_token_ids,
            "stop_token_ids": self.stop_token_ids,
        }
