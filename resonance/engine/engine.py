"""Continuous batching: requests join and leave at every step.

Synchronous and without threads: one step computes a little of whatever is under way, and everything else is made
of steps. The engine knows token ids and sampling; templates and conversations are its callers' business.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Self

import torch
from torch import Tensor

from resonance.checkpoint import Checkpoint
from resonance.engine import loading, scoring
from resonance.engine.beam_search import Beam
from resonance.engine.choosing import choose_following
from resonance.engine.draft_model import DraftModel
from resonance.engine.outputs import Completion, Piece, TokenLogprob
from resonance.engine.quantization import Precision
from resonance.engine.request_tracker import Desk
from resonance.engine.requests import Request, ends_of_text, make_texts
from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.engine.scheduler import Scheduler
from resonance.engine.sequence import Text
from resonance.engine.speculative import PromptLookup
from resonance.engine.stats import Counts, EngineStats
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer


class Engine:
    """Generates, scores and embeds token sequences with one model.

    `eos_id` ends a text, and so does the tokenizer's end of text. Without a tokenizer pieces have no text, and
    stop strings are refused. The model itself is left as it is, in training or not. The engine computes in
    `precision` (the model's own by default); with the C++ kernels from a copy of the weights as they are now, with
    torch (`kernels=False`, or where there is no compiler) from the very tensors where their type is the same.

    Texts can be guessed ahead, several tokens a step, and stay what they are: by `prompt_lookup`, as they went on
    when their last tokens occurred before, which answers that quote their prompt gain from; or by a `draft`, a
    smaller model of the same vocabulary.

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
        draft: GPT2 | None = None,
    ) -> None:
        if max_batch_size < 1:
            raise EngineError(f"max_batch_size must be at least 1, not {max_batch_size}.")
        if prompt_lookup and draft is not None:
            raise EngineError("A text can be guessed by prompt_lookup or by a draft, not by both; choose one.")
        started = time.perf_counter()
        self.config = model.config
        self.tokenizer = tokenizer
        self.eos_ids = ends_of_text(self.config, tokenizer, eos_id)
        self._precision = precision or ("bf16" if model.head_weight.dtype.itemsize == 2 else "fp32")
        self._cache, self._runner, self._notes = loading.cache_and_runner(
            model, max_batch_size, self._precision, kernels=kernels
        )
        drafter = PromptLookup() if prompt_lookup else None
        if draft is not None:
            drafter = DraftModel(draft, self.config, max_batch_size, self._precision, kernels=kernels)
            self._notes += drafter.notes
        self._scheduler = Scheduler(max_batch_size, self._cache.copy_prefix, drafter)
        self._counts = Counts()
        self._desk = Desk(self._scheduler, self._counts)
        self._load_seconds = time.perf_counter() - started

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint | str,
        dtype: str = "auto",
        quantize: str | None = None,
        max_batch_size: int = 8,
        *,
        device: str = "auto",
        prompt_lookup: bool = False,
        draft: Checkpoint | str | None = None,
    ) -> Self:
        """An engine for a checkpoint: its weights, its tokenizer, its template's end token.

        `dtype` is "fp32", "bf16", or "auto", which measures which of the two is faster here; `quantize` is "int8",
        "int4" or None; `device` is torch's name of one, or "auto" for a GPU where there is one. Raises EngineError
        for anything else, CheckpointError when there is no such checkpoint, and it or WeightsError when its files are
        damaged.
        """
        started = time.perf_counter()
        checkpoint = loading.opened(checkpoint)
        place = loading.device(device)
        precision = loading.precision(checkpoint.config, dtype, quantize, place)
        engine = cls(
            checkpoint.load_model().to(place),
            checkpoint.load_tokenizer(),
            max_batch_size=max_batch_size,
            eos_id=checkpoint.template().end_id,
            precision=precision,
            prompt_lookup=prompt_lookup,
            draft=None if draft is None else loading.opened(draft).load_model().to(place),
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
        texts = self._texts(prompt_ids, params, request_id, owner, priority)
        self._desk.open(texts)
        return texts[0].request_id

    def submit_score(
        self,
        prompt_ids: Sequence[int],
        continuation_ids: Sequence[int],
        *,
        top: int = 0,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> str:
        """Queue the scoring of a continuation after its prompt and return its id; `step` brings pieces with `scores`.

        They add up to one score for each of the continuation's tokens, with the `top` likeliest in their places; the
        last piece's finish_reason is "stop". Shares each step with what is generated, as prompts do, and is
        cancelled as they are. Raises EngineError when there is nothing to score or the request cannot be served.
        """
        if not len(continuation_ids):
            raise EngineError("A continuation to score must have at least one token.")
        text = self._scored_text((prompt_ids, continuation_ids), top, request_id, owner, priority)
        self._desk.open([text])
        return text.request_id

    def step(self) -> list[tuple[str, Piece]]:
        """Compute one step and return what it brought, as (request id, piece) in the order of generation."""
        if self._scheduler.has_work:
            self._advance()
        return self._desk.collect()

    def cancel(self, request_id: str) -> bool:
        """End a request now; the next step brings its last piece. False when there is no such request (any more)."""
        return self._desk.cancel(request_id)

    def pause(self, request_id: str) -> None:
        """Compute nothing more for a request until `resume`; its slots go to requests that wait for one meanwhile.

        A pause changes when its tokens come, not what they are. A request that is not under way is passed over.
        """
        self._desk.pause(request_id, paused=True)

    def resume(self, request_id: str) -> None:
        """Let a paused request go on."""
        self._desk.pause(request_id, paused=False)

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to compute or to bring."""
        return self._scheduler.has_work or self._desk.has_mail

    # Whole jobs, each alone or beside submitted requests

    def stream(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        owner: str | None = None,
    ) -> Iterator[Piece]:
        """Generate one request, piece by piece; closing the iterator cancels it. Raises as `submit` does."""
        texts = self._texts(prompt_ids, params, owner=owner)
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
            for text in self._texts(prompt, asked, owner=owner)
        ]
        for text in texts:
            text.read_along = False
        for _ in self._run(texts):
            pass
        return [text.completion() for text in texts]

    def beam_search(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        width: int = 4,
        length_penalty: float = 1.0,
        owner: str | None = None,
    ) -> list[Completion]:
        """The `width` likeliest whole continuations of a prompt that a beam finds, best first, with log-probabilities.

        They are ranked by log-probability / length ** length_penalty. Of `params`, temperature and the filters
        play no part; stop strings, grammars and n are refused with an EngineError.
        """
        text = self._texts(prompt_ids, params, owner=owner)[0]
        found = Beam(width, length_penalty).search(text, lambda texts: self._next_logits(texts, owner))
        return [hypothesis.completion(text) for hypothesis in found]

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-likelihoods (natural) of each continuation's tokens after its prompt, for (prompt, continuation) ids."""
        return [[token.logprob for token in tokens] for tokens in self._score(pairs, top=0)]

    def prompt_logprobs(self, prompt_ids: Sequence[int], top: int = 0) -> list[TokenLogprob]:
        """Log-probabilities of a text's second token and on, with the `top` likeliest in their places."""
        return self._score([(prompt_ids[:1], prompt_ids[1:])], top)[0]

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The mean of each text's hidden states after the last LayerNorm: (texts, n_embd) fp32."""
        means = [states.float().mean(0) for states in self._collect([(ids, 0) for ids in texts])]
        return torch.stack(means).cpu() if means else torch.empty(0, self.config.n_embd)

    def stats(self) -> EngineStats:
        """Counts since the engine was made, and how it runs."""
        return EngineStats(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            slots=len(self._scheduler.slots),
            **asdict(self._counts),
            precision=self._precision,
            path=self._runner.path,
            notes=self._notes,
            weight_bytes=self._runner.nbytes,
            cache_bytes=self._cache.nbytes,
            load_seconds=self._load_seconds,
        )

    # How it works

    def _advance(self) -> None:
        started = time.perf_counter()
        chunks = self._scheduler.schedule()
        hidden = self._runner.hidden(chunks).split([chunk.wanted for chunk in chunks])  # (wanted, C) each
        following = choose_following(self._runner, chunks, hidden)
        for chunk, states, choices in zip(chunks, hidden, following, strict=True):
            if chunk.text.finish_reason is not None:  # cancelled by one of its own logits processors
                continue
            pieces = chunk.text.advance(chunk, states, choices)
            self._desk.deliver(chunk.text, pieces)
            self._counts.add(chunk, pieces)
        self._counts.steps += 1
        self._counts.busy_seconds += time.perf_counter() - started

    def _texts(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams | None,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> list[Text]:
        request_id = self._desk.free_id(request_id)
        request = Request(request_id, prompt_ids, params or SamplingParams(), owner, priority)
        return make_texts(request, self.config, self.tokenizer, self.eos_ids)

    def _work(self, texts: Sequence[Text]) -> Generator[None]:
        # Step by step until these are finished, whatever else is under way; leave nothing behind if the caller stops.
        self._desk.open(texts)
        try:
            for text in texts:
                while text.finish_reason is None:
                    self._advance()
                    yield
        finally:
            for request_id in {text.request_id for text in texts if text.finish_reason is None}:
                self.cancel(request_id)

    def _run(self, texts: Sequence[Text]) -> Iterator[Piece]:
        pieces: deque[Piece] = deque()
        for text in texts:
            text.pieces = pieces
        with closing(self._work(texts)) as steps:
            for _ in steps:
                while pieces:
                    yield pieces.popleft()

    def _score(self, pairs: Sequence[scoring.Pair], top: int) -> list[list[TokenLogprob]]:
        texts = [self._scored_text(pair, top) if len(pair[1]) else None for pair in pairs]
        work = [text for text in texts if text is not None]
        for text in work:
            text.read_along = False
        for _ in self._run(work):
            pass
        return [[] if text is None else text.logprobs for text in texts]

    def _scored_text(
        self,
        pair: scoring.Pair,
        top: int,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> Text:
        prompt, continuation = scoring.checked(pair, top, self.config.vocab_size)
        text = self._texts([*prompt, *continuation[:-1]], None, request_id, owner, priority)[0]  # the last is not read
        text.scored_ids, text.scored_top, text.wanted_from = continuation, top, len(prompt) - 1
        return text

    def _next_logits(self, texts: Sequence[Sequence[int]], owner: str | None) -> Tensor:
        # What follows each text, (texts, V); what they share with texts of the step before is in the cache.
        states = list(self._collect([(ids, len(ids) - 1) for ids in texts], owner))
        return self._runner.logits(torch.cat(states))

    def _collect(self, jobs: Sequence[tuple[Sequence[int], int]], owner: str | None = None) -> Iterator[Tensor]:
        # The hidden states of each text's tokens from the given place on, (tokens, C) each, as texts are finished.
        texts = [self._texts(ids, None, owner=owner)[0] for ids, _ in jobs]
        for text, (_, wanted_from) in zip(texts, jobs, strict=True):
            text.hidden, text.wanted_from = [], wanted_from
        with closing(self._work(texts)) as steps:
            for text in texts:
                while text.finish_reason is None:
                    next(steps)
                states, text.hidden = text.hidden, []
                yield torch.cat(states or [])
