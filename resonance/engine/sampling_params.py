"""The parameters of sampling, validated on construction, and the metadata that sampling one token needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

from torch import Tensor

from resonance.errors import ResonanceError

LogitsProcessor = Callable[[Sequence[int], Tensor], Tensor]
"""Called for each new token with the ids generated so far and their logits (vocab_size,); returns logits."""

GRAMMARS = ("json_schema", "regex", "grammar")  # the parameters that constrain the text, of which one may be given
MAX_LOGIT_CHANGE = 1e30  # of penalties and biases, so that changed logits stay finite in fp32


class EngineError(ResonanceError):
    """The engine cannot serve a request; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one request are sampled.

    Filters apply in the order temperature, top_k, top_p, min_p, typical_p, each on the survivors of the one
    before, renormalised. Raises EngineError naming the first value out of its range.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0  # 0: greedy, the likeliest token
    top_k: int = 0  # the k likeliest tokens; 0: all
    top_p: float = 1.0  # the fewest likeliest tokens whose probabilities reach p (Holtzman et al. 2020)
    min_p: float = 0.0  # tokens at least min_p times as likely as the likeliest (Nguyen et al. 2024)
    typical_p: float = 1.0  # the tokens nearest to the entropy whose mass reaches p (Meister et al. 2023)
    repetition_penalty: float = 1.0  # divides positive logits of seen tokens, multiplies negative ones (CTRL, 2019)
    presence_penalty: float = 0.0  # subtracted once from tokens that were generated (OpenAI's API)
    frequency_penalty: float = 0.0  # subtracted for each time they were generated (OpenAI's API)
    logit_bias: Mapping[int, float] | None = None  # added to the logits of these ids
    banned_token_ids: tuple[int, ...] = ()  # never sampled
    forced_token_ids: tuple[int, ...] = ()  # the first new tokens, whatever their logits
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    stop_token_ids: tuple[int, ...] = ()  # end the text as the end-of-sequence token does
    min_new_tokens: int = 0  # no end token is sampled before
    ignore_eos: bool = False  # the end-of-sequence token is like any other
    seed: int | None = None  # the same seed gives the same tokens, whatever else is in the batch
    logprobs: int | None = None  # log-probabilities of the sampled token and of this many alternatives; None: neither
    n: int = 1  # independent completions of one prompt
    json_schema: Mapping[str, object] | str | None = None  # the text is JSON that matches this schema
    regex: str | None = None  # the whole text matches this regular expression
    grammar: str | None = None  # the text is of this context-free grammar, in llguidance's variant of Lark
    grammar_trigger: str | None = None  # begins an optional part of it, only where that can end within max_new_tokens
    logits_processors: tuple[LogitsProcessor, ...] = ()

    def __post_init__(self) -> None:
        for name, valid, expected in self._checks():
            if not valid:
                raise EngineError(f"{name} must be {expected}, not {getattr(self, name)!r}.")
        given = [name for name in GRAMMARS if getattr(self, name) is not None]
        if len(given) > 1:
            raise EngineError(f"A text cannot be held to {' and '.join(given)} at once; give one of them.")

    @property
    def changes_logits(self) -> bool:
        """Whether any parameter changes the logits before a token is sampled."""
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
    def has_grammar(self) -> bool:
        """Whether a JSON schema, a regular expression or a grammar constrains the text."""
        return any(getattr(self, name) is not None for name in GRAMMARS)

    @property
    def grammar_name(self) -> str:
        """The name of the parameter that constrains the text; empty where none does."""
        return next((name for name in GRAMMARS if getattr(self, name) is not None), "")

    def token_ids_named(self) -> dict[str, Sequence[int]]:
        """Every parameter that names token ids, for checking them against a vocabulary."""
        return {
            "logit_bias": tuple(self.logit_bias or ()),
            "banned_token_ids": self.banned_token_ids,
            "forced_token_ids": self.forced_token_ids,
            "stop_token_ids": self.stop_token_ids,
        }

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        # (name, whether its value is valid, what is expected); a check may rely on the ones before it.
        yield "max_new_tokens", _whole(self.max_new_tokens, 1), "a whole number of at least 1"
        yield "temperature", _number(self.temperature, 0), "0 or more"
        yield "top_k", _whole(self.top_k, 0), "a whole number, 0 (no limit) or more"
        yield "top_p", _number(self.top_p, 0, 1) and self.top_p > 0, "above 0 and at most 1"
        yield "min_p", _number(self.min_p, 0, 1), "between 0 and 1"
        yield "typical_p", _number(self.typical_p, 0, 1) and self.typical_p > 0, "above 0 and at most 1"
        yield "repetition_penalty", _number(self.repetition_penalty, 1 / MAX_LOGIT_CHANGE), "above 0"
        yield "presence_penalty", _number(self.presence_penalty, -MAX_LOGIT_CHANGE), "a finite number"
        yield "frequency_penalty", _number(self.frequency_penalty, -MAX_LOGIT_CHANGE), "a finite number"
        yield "logit_bias", self.logit_bias is None or _biases(self.logit_bias), "a mapping of token ids to numbers"
        for name, ids in self.token_ids_named().items():
            yield name, _all(ids, Integral), "a sequence of token ids"
        within = len(self.forced_token_ids) <= self.max_new_tokens
        yield "forced_token_ids", within, "at most max_new_tokens long"
        yield "stop", not isinstance(self.stop, str), f"a sequence of strings like ({self.stop!r},)"
        yield "stop", _all(self.stop, str) and all(self.stop), "made of non-empty strings"
        within = _whole(self.min_new_tokens, 0) and self.min_new_tokens <= self.max_new_tokens
        yield "min_new_tokens", within, "between 0 and max_new_tokens"
        yield "seed", self.seed is None or isinstance(self.seed, Integral), "None or a whole number"
        yield "logprobs", self.logprobs is None or _whole(self.logprobs, 0), "None or a whole number of at least 0"
        yield "n", _whole(self.n, 1), "a whole number of at least 1"
        for name in ("regex", "grammar"):
            yield name, isinstance(getattr(self, name), str | None), "None or a string"
        yield "grammar_trigger", self.grammar_trigger is None or self.grammar is not None, "None without a grammar"
        functions = _all(self.logits_processors, object) and all(map(callable, self.logits_processors))
        yield "logits_processors", functions, "a sequence of functions"


@dataclass(frozen=True, slots=True)
class SamplingMetadata:
    """What sampling one token depends on beside its logits: parameters, random seed and the tokens before it."""

    params: SamplingParams
    seed: int
    token_ids: Sequence[int]  # everything before the sampled token
    prompt_tokens: int  # how many of them are the prompt
    end_ids: frozenset[int]  # the tokens that end the sequence
    allowed: Tensor | None = None  # (vocab,) bool: the tokens that a grammar allows; None: all

    @property
    def position(self) -> int:
        """The sampled token's position among the generated tokens."""
        return len(self.token_ids) - self.prompt_tokens

    @property
    def new_ids(self) -> Sequence[int]:
        """The tokens generated before this one."""
        return self.token_ids[self.prompt_tokens :]

    @property
    def may_exclude_all(self) -> bool:
        """Whether the logits processors may exclude every token."""
        return bool(self.allowed is not None or self.params.banned_token_ids or self.params.logits_processors)

    @property
    def changes_logits(self) -> bool:
        """Whether the logits processors change anything."""
        return self.allowed is not None or self.params.changes_logits


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and int(value) >= least


def _number(value: object, least: float, most: float = MAX_LOGIT_CHANGE) -> bool:
    return isinstance(value, int | float) and least <= value <= most


def _all(values: object, kind: type) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, kind) for value in values)


def _biases(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(token_id, Integral) and _number(bias, float("-inf")) for token_id, bias in values.items()
    )
