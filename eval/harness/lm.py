"""Our engine as a language model of lm-evaluation-harness.

It follows the harness's own `hf` model (lm_eval 0.4.13, `models/huggingface.py`): the same token ids, truncation from
the left, windows of long texts and stop strings, so that both give the same numbers.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Protocol

from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]  # extra lm-eval
from lm_eval.models.utils import normalize_gen_kwargs  # pyright: ignore[reportMissingImports]  # extra lm-eval
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]  # extra lm-eval
from tqdm import tqdm

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from resonance.chat_template import Message
from resonance.engine import SamplingParams
from resonance.tokenizer import EOT

MAX_GEN_TOKS = 256  # of a task that names no limit; the harness's default
BATCHES_PER_CALL = 8  # of the engine: enough to keep its slots full, few enough for a moving progress bar

# The harness's generation settings by the name of ours, apart from those that need more than renaming.
_SAMPLING = {
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "min_new_tokens": "min_new_tokens",
}
_WITHOUT_EFFECT = {"num_beams": 1, "num_return_sequences": 1, "use_cache": True, "length_penalty": 1.0}

# The request's texts, None for a window of a longer text; the context's ids; the continuation's.
Scored = tuple[tuple[str, str] | None, list[int], list[int]]


class Request(Protocol):
    """An instance of the harness: one question to the model."""

    @property
    def args(self) -> tuple[object, ...]: ...


class EngineLM(TemplateLM):  # pyright: ignore[reportUntypedBaseClass]
    """A model under evaluation, as the harness calls it.

    Args:
        model: the engine, tokenizer and chat template.
        seed: draws the tokens of tasks that sample; each request has its own, whatever runs beside it.
        max_length: the most tokens of context and continuation; None: the model's whole context.
    """

    def __init__(self, model: EvaluatedModel, *, seed: int = 0, max_length: int | None = None) -> None:
        super().__init__()
        self._engine, self._tokenizer, self._template = model.engine, model.tokenizer, model.template
        self._seed = seed
        self.max_length = max_length or model.engine.config.context_length
        self._call = model.batch_size * BATCHES_PER_CALL
        self._slots = model.batch_size
        self._rendered: dict[str, list[int]] = {}  # prompts that the template rendered -> their ids
        self._special = re.compile("(" + "|".join(map(re.escape, self._tokenizer.special_tokens)) + ")")

    # Text and tokens

    @property
    def eot_token_id(self) -> int:
        """The token that stands before a text without context, and ends a generated one."""
        return self._tokenizer.eot_id

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer and the template in the harness's caches of requests."""
        return f"resonance-gpt2-{self._tokenizer.vocab_size}-{self._template.name}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template as Jinja, if it is in use. Raises EvalError for the name of another template."""
        if isinstance(chat_template, str) and chat_template != self._template.name:
            raise EvalError(
                f"The checkpoint's chat template is {self._template.name!r}, and it has no {chat_template!r}; "
                "apply_chat_template=true takes the checkpoint's."
            )
        return self._template.jinja if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render messages as in training, and return the prompt's text.

        The ids behind the text are kept, because encoding the whole text at once may give others. Without
        `add_generation_prompt` the last message is the start of an answer, which the model continues.
        """
        messages = [Message(turn["role"], turn["content"]) for turn in chat_history]  # pyright: ignore[reportArgumentType]
        start: list[int] = []
        if not add_generation_prompt and messages and messages[-1].role == "assistant":
            start = self._tokenizer.encode(messages.pop().content)
        ids = [*self._template.render(messages, add_generation_prompt=True).input_ids, *start]
        text = self._tokenizer.decode(ids)
        self._rendered[text] = ids
        return text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Encode a text; the names of special tokens become those tokens, as in Hugging Face's tokenizer.

        GPT-2's tokenizer adds no special tokens, whatever `add_special_tokens` says.
        """
        if string in self._rendered:
            return self._rendered[string]
        names = self._tokenizer.special_tokens
        ids: list[int] = []
        for part in self._special.split(string):
            ids += [names[part]] if part in names else self._tokenizer.encode(part)
        return ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        # After a rendered prompt an answer is encoded on its own, as in training; its end is no part of the answer.
        if context in self._rendered:
            return self._rendered[context], self.tok_encode(continuation)
        return super()._encode_pair(context, continuation)

    # Log-likelihoods

    def _loglikelihood_tokens(
        self, requests: Sequence[Scored], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        """For each request the continuation's log-likelihood, and whether each of its tokens is the likeliest.

        What does not fit into the context is cut from the left. Raises EvalError for a continuation longer than it.
        """
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        progress = tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests")
        order = _by_shared_context(requests, self._slots)
        for start in range(0, len(order), self._call):
            indices = order[start : start + self._call]
            pairs = [self._truncated(requests[i][1], requests[i][2]) for i in indices]
            for i, tokens in zip(indices, self._engine.score_tokens(pairs, top=1), strict=True):
                likeliest = all(token.top_logprobs[0][0] == token.token_id for token in tokens)
                answers[i] = sum(token.logprob for token in tokens), likeliest
                if (texts := requests[i][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, answers[i])
            progress.update(len(indices))
        progress.close()
        return answers

    def _truncated(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        if len(continuation) > self.max_length:
            raise EvalError(
                f"A continuation to score has {len(continuation)} tokens but the model's context holds "
                f"{self.max_length}; this task needs a model with a longer context."
            )
        room = self.max_length + 1 - len(continuation)  # the last token is only predicted, never read
        return context[-room:], continuation

    def loglikelihood_rolling(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text, in windows as long as the context that predict each token once."""
        windows: list[Scored] = []
        owners: list[int] = []
        for i, request in enumerate(requests):
            text = str(request.args[0])
            rolling = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, 1)
            for context, predicted in map(make_disjoint_window, rolling):
                windows.append((None, context, predicted))
                owners.append(i)
        totals = [0.0] * len(requests)
        scored = self._loglikelihood_tokens(windows, disable_tqdm)
        for i, (value, _) in zip(owners, scored, strict=True):
            totals[i] += value
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    # Generation

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """Generate for each request until one of its stop strings, an end token or its limit of tokens.

        Raises EvalError for a setting that this engine does not have, or a limit that leaves no room for the context.
        """
        prompts: list[list[int]] = []
        params: list[SamplingParams] = []
        seen: Counter[str] = Counter()
        for request in requests:
            context, settings = str(request.args[0]), request.args[1]
            if not isinstance(settings, Mapping):
                raise EvalError(f"generation_kwargs must be a mapping of settings, not {settings!r}.")
            seed = _request_seed(self._seed, context, seen[context])
            seen[context] += 1
            params.append(sampling_params(settings, seed, self._tokenizer.special_tokens))
            room = self.max_length - params[-1].max_new_tokens
            if room < 1:
                raise EvalError(
                    f"max_gen_toks={params[-1].max_new_tokens} leaves no room for the question in a context of "
                    f"{self.max_length} tokens; give fewer with harness_gen_kwargs={{max_gen_toks: N}}."
                )
            prompts.append((self.tok_encode(context) or [self.eot_token_id])[-room:])
        order = sorted(range(len(requests)), key=lambda i: -len(prompts[i]))
        texts = [""] * len(requests)
        progress = tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests")
        for start in range(0, len(order), self._call):
            indices = order[start : start + self._call]
            done = self._engine.generate([prompts[i] for i in indices], [params[i] for i in indices])
            for i, completion in zip(indices, done, strict=True):
                texts[i] = completion.text
                self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])
            progress.update(len(indices))
        progress.close()
        return texts


def sampling_params(settings: Mapping[str, object], seed: int, special_tokens: Mapping[str, int]) -> SamplingParams:
    """The harness's `generation_kwargs` as the engine's parameters. Raises EvalError for a setting it does not have."""
    left: dict[str, object] = {**normalize_gen_kwargs({**settings}, MAX_GEN_TOKS)}
    do_sample, temperature = bool(left.pop("do_sample")), float(str(left.pop("temperature", 0.0)))
    if do_sample and temperature <= 0:
        raise EvalError(f"do_sample=true needs a temperature above 0, not {temperature:g}.")
    until = left.pop("until")
    stops = [str(text) for text in until if text] if isinstance(until, list) else []
    limit = int(str(left.pop("max_gen_toks")))
    for name, neutral in _WITHOUT_EFFECT.items():
        if name in left and left[name] == neutral:
            del left[name]
    values = {_SAMPLING[name]: left.pop(name) for name in list(left) if name in _SAMPLING and left[name] is not None}
    left = {name: value for name, value in left.items() if value is not None}
    if left:
        name, value = next(iter(left.items()))
        raise EvalError(
            f"The engine does not have the generation setting {name}={value!r}; there are until, max_gen_toks, "
            f"do_sample, temperature, {', '.join(_SAMPLING)}."
        )
    return SamplingParams(
        max_new_tokens=limit,
        temperature=temperature if do_sample else 0.0,
        stop=(*(text for text in stops if text not in special_tokens), EOT),
        stop_token_ids=tuple(special_tokens[text] for text in stops if text in special_tokens),
        seed=seed,
        **values,  # pyright: ignore[reportArgumentType]
    )


def _by_shared_context(requests: Sequence[Scored], slots: int) -> list[int]:
    """The order in which to score requests: longest context first, and equal contexts `slots` requests apart.

    While one continuation of a context is scored the others wait; after that they take the context from the engine's
    cache, which computes it once for all choices of a question.
    """
    by_context: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, (_, context, _) in enumerate(requests):
        by_context[tuple(context)].append(i)
    groups = sorted(
        by_context.values(), key=lambda group: -max(len(requests[i][1]) + len(requests[i][2]) for i in group)
    )
    order: list[int] = []
    for start in range(0, len(groups), slots):
        rounds = zip_longest(*groups[start : start + slots])
        order += [i for one_round in rounds for i in one_round if i is not None]
    return order


def _request_seed(seed: int, context: str, repeat: int) -> int:
    digest = hashlib.sha256(f"{seed}/{repeat}/{context}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "little")
