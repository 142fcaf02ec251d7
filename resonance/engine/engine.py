"""Continuous batching: requests join and leave at every step.

Synchronous and without threads: one step computes a little of whatever is under way, and everything else is made
of steps. The engine knows token ids and sampling; templates and conversations are its callers' business.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Self, cast

import torch
from torch import Tensor

from resonance.checkpoint import Checkpoint
from resonance.engine import sampling
from resonance.engine.cache import SlotCache
from resonance.engine.params import EngineError, SamplingParams
from resonance.engine.quantize import Precision
from resonance.engine.requests import Request, make_texts
from resonance.engine.results import Completion, EngineStats, FinishReason, Piece, TokenLogprob
from resonance.engine.runner import fastest, make_runner
from resonance.engine.scheduler import Scheduler
from resonance.engine.speculate import look_up
from resonance.engine.text import Chunk, Text
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer

HEAD_ROWS = 128  # logits of so many places at a time exist when whole texts are scored

Choice = tuple[int, TokenLogprob | None]


class Engine:
    """Generates, scores and embeds token sequences with one model.

    `eos_id` ends a text, and so does the tokenizer's end of text. Without a tokenizer pieces have no text, and
    stop strings are refused. The engine keeps its own copy of the weights in `precision` (the model's own by
    default), as they are when it is made. `kernels=False` computes with torch. `prompt_lookup` guesses that a text
    goes on as it did when its last tokens occurred before, which answers that quote their prompt gain from; the
    text stays the same.

    With the C++ kernels each row is computed in one order of additions, so that in fp32 a request's tokens are bit
    for bit the same whoever else is in the batch; torch's products may round differently for another number of
    rows, and so may bf16, int8 and int4 where long prompts are computed on matrix units.
    """

    def __init__(
        self,
        model: GPT2,
        tokenizer: Tokenizer | None = None,
        *,
        max_batch_size: int = 8,
        eos_id: int | None = None,
        precision: Precision | None = None,
        kernels: bool = True,
        prompt_lookup: bool = False,
    ) -> None:
        if max_batch_size < 1:
            raise EngineError(f"max_batch_size must be at least 1, not {max_batch_size}.")
        started = time.perf_counter()
        self.config = model.config
        self.tokenizer = tokenizer
        self.eos_ids = frozenset(i for i in (eos_id, tokenizer and tokenizer.eot_id) if i is not None)
        self._precision = precision or ("fp32" if model.head_weight.dtype == torch.float32 else "bf16")
        cache_dtype = torch.float32 if self._precision == "fp32" else torch.bfloat16
        self._cache = SlotCache(self.config, max_batch_size, cache_dtype, model.head_weight.device)
        self._runner, self._notes = make_runner(model, self._cache, self._precision, kernels=kernels)
        self._scheduler = Scheduler(
            max_batch_size,
            self.config.context_length,
            self._cache.copy_prefix,
            draft=look_up if prompt_lookup else None,
        )
        self._unfinished: dict[str, list[Text]] = {}  # by request
        self._outbox: deque[tuple[str, Piece]] = deque()
        self._numbers = count(1)
        self._counts: Counter[str] = Counter()
        self._load_seconds = time.perf_counter() - started

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint | str,
        dtype: str = "auto",
        quantize: str | None = None,
        max_batch_size: int = 8,
        *,
        prompt_lookup: bool = False,
    ) -> Self:
        """An engine for a checkpoint: its weights, its tokenizer, its template's end token.

        `dtype` is "fp32", "bf16", or "auto", which measures which of the two is faster here; `quantize` is "int8",
        "int4" or None. Raises EngineError for anything else, CheckpointError when there is no such checkpoint.
        """
        if isinstance(checkpoint, str):
            checkpoint = Checkpoint.find(checkpoint)
        for name, value, known in (
            ("dtype", dtype, ("auto", "fp32", "bf16")),
            ("quantize", quantize, (None, "int8", "int4")),
        ):
            if value not in known:
                raise EngineError(f"{name} must be one of {', '.join(map(str, known))}, not {value!r}.")
        started = time.perf_counter()
        precision = cast("Precision", quantize or (fastest(checkpoint.config) if dtype == "auto" else dtype))
        engine = cls(
            checkpoint.load_model(),
            checkpoint.load_tokenizer(),
            max_batch_size=max_batch_size,
            eos_id=checkpoint.template().end_id,
            precision=precision,
            prompt_lookup=prompt_lookup,
        )
        engine._load_seconds = time.perf_counter() - started
        return engine

    # Requests that come and go

    def submit(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> str:
        """Queue a request and return its id; `step` brings its pieces.

        Cached prefixes are shared among requests of the same `owner` only. A higher `priority` goes first.
        Raises EngineError when the request cannot be served.
        """
        texts = self._request(prompt_ids, params or SamplingParams(), request_id, owner, priority)
        self._enqueue(texts)
        return texts[0].request_id

    def step(self) -> list[tuple[str, Piece]]:
        """Compute one step and return what it brought, as (request id, piece) in the order of generation."""
        if self._scheduler.has_work:
            self._advance()
        pieces = list(self._outbox)
        self._outbox.clear()
        return pieces

    def cancel(self, request_id: str) -> bool:
        """End a request now; the next step brings its last piece. False when there is no such request (any more)."""
        texts = [text for text in self._unfinished.get(request_id, ()) if text.finish_reason is None]
        for text in texts:
            self._finish(text, "cancelled")
            rest = text.detokenizer.finish() if text.detokenizer else ""
            self._deliver(text, Piece(None, rest, finish_reason="cancelled", index=text.index))
        self._counts["cancelled"] += bool(texts)
        return bool(texts)

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to compute or to bring."""
        return self._scheduler.has_work or bool(self._outbox)

    # Whole jobs, each alone or beside submitted requests

    def stream(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        owner: str | None = None,
    ) -> Iterator[Piece]:
        """Generate one request, piece by piece; closing the iterator cancels it. Raises as `submit` does."""
        texts = self._request(prompt_ids, params or SamplingParams(), owner=owner)
        return self._run(texts)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        owner: str | None = None,
    ) -> list[Completion]:
        """Generate for all prompts, batched; completions in the prompts' order, each prompt's n side by side.

        `params` are one for all or one for each. Raises EngineError before anything is computed when any
        request cannot be served.
        """
        if params is None or isinstance(params, SamplingParams):
            params = [params or SamplingParams()] * len(prompts)
        if len(params) != len(prompts):
            raise EngineError(
                f"There are {len(prompts)} prompts but {len(params)} sets of parameters; give one or as many."
            )
        texts = [
            text
            for prompt, asked in zip(prompts, params, strict=True)
            for text in self._request(prompt, asked, owner=owner)
        ]
        for _ in self._run(texts):
            pass
        return [text.completion() for text in texts]

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-likelihoods (natural) of each continuation's tokens after its prompt, for (prompt, continuation) ids."""
        return [[token.logprob for token in tokens] for tokens in self._score(pairs, top=0)]

    def prompt_logprobs(self, prompt_ids: Sequence[int], top: int = 0) -> list[TokenLogprob]:
        """Log-probabilities of a text's second token and on, with the `top` likeliest in their places."""
        return self._score([(prompt_ids[:1], prompt_ids[1:])], top)[0]

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The mean of each text's hidden states after the last LayerNorm: (texts, n_embd) fp32."""
        collected = self._collect([(ids, 0) for ids in texts])
        means = [states.float().mean(0) for states in collected]
        return torch.stack(means) if means else torch.empty(0, self.config.n_embd)

    def stats(self) -> EngineStats:
        """Counts since the engine was made, and how it runs."""
        counted = ("requests", "cancelled", "steps", "prompt_tokens", "cached_tokens", "generated_tokens")
        return EngineStats(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            slots=len(self._scheduler.slots),
            **{name: self._counts[name] for name in counted},
            drafted_tokens=self._counts["drafted_tokens"],
            accepted_tokens=self._counts["accepted_tokens"],
            precision=self._precision,
            path=self._runner.path,
            notes=self._notes,
            weight_bytes=self._runner.nbytes,
            cache_bytes=self._cache.nbytes,
            load_seconds=self._load_seconds,
        )

    # How it works

    def _request(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> list[Text]:
        request_id = request_id or f"request-{next(self._numbers)}"
        if request_id in self._unfinished:
            raise EngineError(f"There is already a request {request_id!r} under way; give it another id.")
        return make_texts(
            Request(request_id, prompt_ids, params, owner, priority), self.config, self.tokenizer, self.eos_ids
        )

    def _advance(self) -> None:
        chunks = self._scheduler.schedule()
        hidden = self._runner.hidden(chunks).split([chunk.wanted for chunk in chunks])  # (wanted, C) each
        generating = [i for i, chunk in enumerate(chunks) if chunk.wanted and chunk.text.hidden is None]
        chosen = self._choose([chunks[i] for i in generating], [hidden[i] for i in generating])
        for chunk, states in zip(chunks, hidden, strict=True):
            self._note_computed(chunk, states)
        for i, tokens in zip(generating, chosen, strict=True):
            self._extend(chunks[i], tokens)
        self._counts["steps"] += 1

    def _choose(self, chunks: Sequence[Chunk], hidden: Sequence[Tensor]) -> list[list[Choice]]:
        # For each chunk the tokens that would follow: one, and one more after each drafted token.
        if not chunks:
            return []
        logits = self._runner.logits(torch.cat(list(hidden)))  # (rows, V)
        rows = [chunk.text.row(chunk.drafted[:i]) for chunk in chunks for i in range(chunk.wanted)]
        asked = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
        untouched = logits[asked] if asked else logits  # a copy, or not needed
        token_ids = sampling.choose(logits, rows)
        choices: list[Choice] = [(token_id, None) for token_id in token_ids]
        if asked:
            top = max(rows[i].params.logprobs or 0 for i in asked)
            known = sampling.logprobs(untouched, [token_ids[i] for i in asked], top)
            for i, (value, alternatives) in zip(asked, known, strict=True):
                best = alternatives[: rows[i].params.logprobs]
                choices[i] = (token_ids[i], TokenLogprob(token_ids[i], value, best))
        following = iter(choices)
        return [[next(following) for _ in range(chunk.wanted)] for chunk in chunks]

    def _note_computed(self, chunk: Chunk, states: Tensor) -> None:
        text = chunk.text
        text.computed = min(chunk.start + len(chunk.token_ids), len(text.token_ids))
        if text.hidden is not None:
            text.hidden.append(states)
            if text.computed == len(text.token_ids):
                self._finish(text, "stop")

    def _extend(self, chunk: Chunk, choices: Sequence[Choice]) -> None:
        # Take the first token, and each further one as long as the draft had guessed the one before it.
        text, drafted = chunk.text, chunk.drafted
        for sibling in text.siblings:  # the prompt is in the cache now
            self._scheduler.add(sibling)
        text.siblings.clear()
        self._counts["drafted_tokens"] += len(drafted)
        for place, (token_id, logprob) in enumerate(choices):
            self._say(text, token_id, logprob)
            if text.finish_reason or place == len(drafted) or token_id != drafted[place]:
                break
            text.computed += 1
            self._counts["accepted_tokens"] += 1

    def _say(self, text: Text, token_id: int, logprob: TokenLogprob | None) -> None:
        text.token_ids.append(token_id)
        if logprob is not None:
            text.logprobs.append(logprob)
        self._counts["generated_tokens"] += 1
        said, ended = "", token_id in text.end_ids
        if text.detokenizer is not None and not ended:
            said = text.detokenizer.add(token_id)
            ended = text.detokenizer.stopped
        if text.grammar is not None and not ended:
            text.grammar.accept(token_id)
            ended = text.grammar.finished
        reason: FinishReason | None = "stop" if ended else None
        full = len(text.token_ids) > self.config.context_length
        if not ended and (full or len(text.token_ids) - text.prompt_tokens >= text.params.max_new_tokens):
            reason = "length"
        if reason is not None:
            said += text.detokenizer.finish() if text.detokenizer else ""
            self._finish(text, reason)
        value, top = (logprob.logprob, logprob.top_logprobs) if logprob else (None, None)
        self._deliver(text, Piece(token_id, said, value, top, reason, text.index))

    def _deliver(self, text: Text, piece: Piece) -> None:
        if text.pieces is None:
            self._outbox.append((text.request_id, piece))
        else:
            text.pieces.append(piece)

    def _finish(self, text: Text, reason: FinishReason) -> None:
        text.finish_reason = reason
        self._scheduler.remove(text)
        self._counts["prompt_tokens"] += text.prompt_tokens if text.slot >= 0 else 0
        self._counts["cached_tokens"] += text.cached_tokens
        texts = self._unfinished[text.request_id]
        texts.remove(text)
        if not texts:
            del self._unfinished[text.request_id]

    def _enqueue(self, texts: Iterable[Text]) -> None:
        for text in texts:
            self._unfinished.setdefault(text.request_id, []).append(text)
            if text.index == 0:
                self._scheduler.add(text)
                self._counts["requests"] += 1

    def _run(self, texts: Sequence[Text]) -> Iterator[Piece]:
        # Work until these are finished, whatever else is under way; leave nothing behind if the caller stops.
        pieces: deque[Piece] = deque()
        for text in texts:
            text.pieces = pieces
        self._enqueue(texts)
        try:
            while pieces or any(text.finish_reason is None for text in texts):
                if pieces:
                    yield pieces.popleft()
                else:
                    self._advance()
        finally:
            for request_id in {text.request_id for text in texts if text.finish_reason is None}:
                self.cancel(request_id)

    def _score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], top: int) -> list[list[TokenLogprob]]:
        jobs = [([*prompt, *continuation[:-1]], len(prompt) - 1) for prompt, continuation in pairs if continuation]
        collected = iter(self._collect(jobs))
        scores: list[list[TokenLogprob]] = []
        for _, continuation in pairs:
            tokens: list[TokenLogprob] = []
            for at, states in enumerate(next(collected).split(HEAD_ROWS) if continuation else ()):
                ids = [int(i) for i in continuation[at * HEAD_ROWS : (at + 1) * HEAD_ROWS]]
                known = sampling.logprobs(self._runner.logits(states), ids, top)
                tokens += [TokenLogprob(i, value, best) for i, (value, best) in zip(ids, known, strict=True)]
            scores.append(tokens)
        return scores

    def _collect(self, jobs: Sequence[tuple[Sequence[int], int]]) -> list[Tensor]:
        # The hidden states of each text's tokens from the given place on: (tokens, C) each.
        texts: list[Text] = []
        for ids, wanted_from in jobs:
            if wanted_from < 0:
                raise EngineError(
                    "A prompt to score after must have at least one token; the end-of-text token will do."
                )
            text = self._request(ids, SamplingParams())[0]
            text.hidden, text.wanted_from = [], wanted_from
            texts.append(text)
        for _ in self._run(texts):
            pass
        return [torch.cat(text.hidden or []) for text in texts]
