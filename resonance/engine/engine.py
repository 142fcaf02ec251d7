"""Continuous batching: sequences join and leave the batch at every step.

The engine is synchronous and has no threads. A step schedules chunks of sequences, runs the model, samples the next
tokens and delivers them. Scoring, embedding and beam search are sequences that generate nothing and whose hidden states
are read. The engine works on token ids; chat templates and conversations belong to its callers.
"""

import time
from collections import abc, deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Self

import torch
from torch import Tensor

from resonance.checkpoint import Checkpoint
from resonance.engine import loading
from resonance.engine.beam_search import BeamSearch
from resonance.engine.outputs import Completion, Piece, TokenLogprob
from resonance.engine.quantization import Precision
from resonance.engine.request_tracker import RequestTracker
from resonance.engine.requests import end_of_text_ids, make_sequences
from resonance.engine.sampler import Sampler
from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.engine.scheduler import Scheduler
from resonance.engine.scoring import Embedder, HiddenStatesCollector, Pair, Scorer, checked_pair
from resonance.engine.sequence import Chunk, HiddenStatesConsumer, Sequence
from resonance.engine.speculative import DraftModel, PromptLookup
from resonance.engine.stats import Counts, EngineStats
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer


class Engine:
    """Generates, scores and embeds token sequences with one model.

    `eos_id` and the tokenizer's end-of-text token end a sequence. Without a tokenizer pieces have no text, and stop
    strings are refused. The model is left unchanged, in training mode or not. The engine computes in `precision` (the
    model's own by default): the C++ kernels on a packed copy of the weights, torch (with `kernels=False`, or without a
    compiler) on the model's own tensors where their type is the same.

    Speculative decoding drafts several tokens a step and leaves the output unchanged: `prompt_lookup` copies what
    followed the same tokens earlier, which speeds up answers that quote their prompt; `draft` is a smaller model with
    the same vocabulary.

    The C++ kernels add up each row in one order, so that in fp32 a request's tokens are bit for bit the same in any
    batch. torch may round differently for another number of rows, and so may bf16, int8 and int4 where matrix units
    compute long prompts.
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
        self.eos_ids = end_of_text_ids(self.config, tokenizer, eos_id)
        self._precision = precision or ("bf16" if model.head_weight.dtype.itemsize == 2 else "fp32")
        self._cache, self._runner, self._notes = loading.cache_and_runner(
            model, max_batch_size, self._precision, kernels=kernels
        )
        drafter = PromptLookup() if prompt_lookup else None
        if draft is not None:
            drafter = DraftModel(draft, self.config, max_batch_size, self._precision, kernels=kernels)
            self._notes = tuple(dict.fromkeys(self._notes + drafter.notes))
        self._scheduler = Scheduler(max_batch_size, self._cache.copy_prefix, drafter)
        self._sampler = Sampler(self._runner.logits)
        self._scorer = Scorer(self._runner.logits)
        self._embedder = Embedder()
        self._counts = Counts()
        self._requests = RequestTracker(self._scheduler, self._counts)
        self._load_seconds = time.perf_counter() - started

    def step(self) -> list[tuple[str, Piece]]:
        """Compute one step and return its pieces, as (request id, piece) in the order of generation."""
        if self._scheduler.has_work:
            self._run_step()
        return self._requests.collect()

    def _run_step(self) -> None:
        started = time.perf_counter()
        chunks = self._scheduler.schedule()  # admits waiting sequences to free slots
        hidden = self._runner.hidden(chunks)  # (tokens, n_embd)
        for chunk, pieces in self._sample(chunks, hidden):
            self._requests.deliver(chunk.sequence, pieces)  # frees a finished sequence's slot; queues siblings (n > 1)
            self._counts.add(chunk, pieces)
        self._counts.steps += 1
        self._counts.busy_seconds += time.perf_counter() - started

    def _sample(self, chunks: list[Chunk], hidden: Tensor) -> Iterator[tuple[Chunk, list[Piece]]]:
        # A sequence with a consumer of its own, which scores or embeds it, generates nothing.
        states = hidden.split([chunk.hidden_count for chunk in chunks])
        groups: dict[HiddenStatesConsumer, list[int]] = {self._sampler: []}
        for i, chunk in enumerate(chunks):
            groups.setdefault(chunk.sequence.consumer or self._sampler, []).append(i)
        for consumer, indices in groups.items():
            yield from consumer.consume([chunks[i] for i in indices], [states[i] for i in indices])

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to compute or to return."""
        return self._scheduler.has_work or self._requests.has_pieces

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
        """Create an engine from a checkpoint: its weights, its tokenizer, its template's end token.

        `dtype` is "fp32", "bf16" or "auto", which measures which of the two is faster here; `quantize` is "int8",
        "int4" or None; `device` is a torch device's name, or "auto" for a GPU if there is one. Raises EngineError for
        anything else, CheckpointError when there is no such checkpoint, and it or WeightsError for damaged files.
        """
        started = time.perf_counter()
        checkpoint = loading.find_checkpoint(checkpoint)
        torch_device = loading.resolve_device(device)
        precision = loading.resolve_precision(checkpoint.config, dtype, quantize, torch_device)
        engine = cls(
            checkpoint.load_model().to(torch_device),
            checkpoint.load_tokenizer(),
            max_batch_size=max_batch_size,
            eos_id=checkpoint.template().end_id,
            precision=precision,
            prompt_lookup=prompt_lookup,
            draft=None if draft is None else loading.find_checkpoint(draft).load_model().to(torch_device),
        )
        engine._load_seconds = time.perf_counter() - started
        return engine

    # Requests

    def submit(
        self,
        prompt_ids: abc.Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> str:
        """Queue a request and return its id; `step` returns its pieces.

        Requests share cached prefixes only with requests of the same `owner`. A higher `priority` is admitted first.
        Raises EngineError when the request cannot be served.
        """
        sequences = self._sequences(prompt_ids, params, request_id, owner, priority)
        self._requests.add(sequences)
        return sequences[0].request_id

    def submit_score(
        self,
        prompt_ids: abc.Sequence[int],
        continuation_ids: abc.Sequence[int],
        *,
        top: int = 0,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> str:
        """Queue the scoring of a continuation after its prompt and return its id; `step` returns pieces with `scores`.

        There is one score for each of the continuation's tokens, with the `top` likeliest tokens at its position; the
        last piece's finish_reason is "stop". Scoring shares each step with generation and can be cancelled like it.
        Raises EngineError when the continuation is empty or the request cannot be served.
        """
        if not len(continuation_ids):
            raise EngineError("A continuation to score must have at least one token.")
        sequence = self._scored_sequence((prompt_ids, continuation_ids), top, request_id, owner, priority)
        self._requests.add([sequence])
        return sequence.request_id

    def submit_embed(
        self,
        token_ids: abc.Sequence[int],
        *,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> str:
        """Queue the embedding of a text and return its id; `step` returns one piece with it when it is computed.

        It is the mean that `embed` returns. Embedding shares each step with generation and can be cancelled like it.
        Raises EngineError when the request cannot be served.
        """
        sequence = self._sequences(token_ids, None, request_id, owner, priority)[0]
        self._embedder.add(sequence)
        self._requests.add([sequence])
        return sequence.request_id

    def cancel(self, request_id: str) -> bool:
        """End a request now; the next step returns its last piece. False when no open request has this id."""
        return self._requests.cancel(request_id)

    def pause(self, request_id: str) -> None:
        """Compute nothing more for a request until `resume`; waiting requests may take its slots meanwhile.

        A pause delays the request's tokens and does not change them. An unknown request is ignored.
        """
        self._requests.pause(request_id, paused=True)

    def resume(self, request_id: str) -> None:
        """Resume a paused request."""
        self._requests.pause(request_id, paused=False)

    # Complete jobs, which also advance submitted requests

    def stream(
        self, prompt_ids: abc.Sequence[int], params: SamplingParams | None = None, *, owner: str | None = None
    ) -> Iterator[Piece]:
        """Generate one request, piece by piece; closing the iterator cancels it. Raises as `submit` does."""
        sequences = self._sequences(prompt_ids, params, owner=owner)
        return self._run(sequences)

    def generate(
        self,
        prompts: abc.Sequence[abc.Sequence[int]],
        params: SamplingParams | abc.Sequence[SamplingParams] | None = None,
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
        sequences = [
            sequence
            for prompt, own_params in zip(prompts, params, strict=True)
            for sequence in self._sequences(prompt, own_params, owner=owner)
        ]
        self._run_to_completion(sequences)
        return [sequence.completion() for sequence in sequences]

    def beam_search(
        self,
        prompt_ids: abc.Sequence[int],
        params: SamplingParams | None = None,
        *,
        width: int = 4,
        length_penalty: float = 1.0,
        owner: str | None = None,
    ) -> list[Completion]:
        """The `width` likeliest whole continuations of a prompt that beam search finds, best first, with logprobs.

        They are ranked by log-probability / length ** length_penalty. Temperature and filters of `params` are ignored;
        stop strings, grammars and n raise EngineError.
        """

        def next_logits(token_ids: list[list[int]]) -> Tensor:  # prefixes of the step before are in the cache
            return self._runner.logits(torch.cat(list(self._hidden([(ids, len(ids) - 1) for ids in token_ids], owner))))

        prompt = self._sequences(prompt_ids, params, owner=owner)[0]
        return [found.completion(prompt) for found in BeamSearch(width, length_penalty).search(prompt, next_logits)]

    def score(self, pairs: abc.Sequence[Pair]) -> list[list[float]]:
        """Natural log-likelihoods of each continuation's tokens after its prompt, for (prompt, continuation) ids."""
        return [[token.logprob for token in tokens] for tokens in self.score_tokens(pairs)]

    def score_tokens(self, pairs: abc.Sequence[Pair], top: int = 0) -> list[list[TokenLogprob]]:
        """Log-probabilities of each continuation's tokens after its prompt, with the `top` likeliest at each position.

        A prompt is computed once where pairs with the same prompt follow each other at a distance of at least
        `max_batch_size` pairs: the later ones take it from the cache.
        """
        sequences = [self._scored_sequence(pair, top) if len(pair[1]) else None for pair in pairs]
        self._run_to_completion([sequence for sequence in sequences if sequence is not None])
        return [[] if sequence is None else self._scorer.scores(sequence) for sequence in sequences]

    def prompt_logprobs(self, prompt_ids: abc.Sequence[int], top: int = 0) -> list[TokenLogprob]:
        """Log-probabilities of a prompt's tokens from the second on, with the `top` likeliest at their positions."""
        return self.score_tokens([(prompt_ids[:1], prompt_ids[1:])], top)[0]

    def embed(self, texts: abc.Sequence[abc.Sequence[int]]) -> Tensor:
        """The mean of each text's hidden states after the final LayerNorm: (texts, n_embd) fp32."""
        means = [states.float().mean(0) for states in self._hidden([(ids, 0) for ids in texts])]
        return torch.stack(means).cpu() if means else torch.empty(0, self.config.n_embd)

    def stats(self) -> EngineStats:
        """The counters since the engine was created, its load and its configuration."""
        return EngineStats(
            **asdict(self._counts),
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            slots=len(self._scheduler.slots),
            precision=self._precision,
            path=self._runner.path,
            notes=self._notes,
            weight_bytes=self._runner.nbytes,
            cache_bytes=self._cache.nbytes,
            load_seconds=self._load_seconds,
        )

    def _sequences(
        self,
        prompt_ids: abc.Sequence[int],
        params: SamplingParams | None,
        request_id: str | None = None,
        owner: str | None = None,
        priority: int = 0,
    ) -> list[Sequence]:
        request_id, params = self._requests.available_id(request_id), params or SamplingParams()
        return make_sequences(
            request_id, prompt_ids, params, owner, priority, self.config, self.tokenizer, self.eos_ids
        )

    def _steps(self, sequences: abc.Sequence[Sequence]) -> Generator[None]:
        # Steps until these sequences are finished, whatever else is running; cancels them if the caller stops early.
        self._requests.add(sequences)
        try:
            for sequence in sequences:
                while sequence.finish_reason is None:
                    self._run_step()
                    yield
        finally:
            for request_id in {sequence.request_id for sequence in sequences if sequence.finish_reason is None}:
                self.cancel(request_id)

    def _run(self, sequences: abc.Sequence[Sequence]) -> Iterator[Piece]:
        pieces: deque[Piece] = deque()
        for sequence in sequences:
            sequence.pieces = pieces
        with closing(self._steps(sequences)) as steps:
            for _ in steps:
                while pieces:
                    yield pieces.popleft()

    def _run_to_completion(self, sequences: abc.Sequence[Sequence]) -> None:
        for sequence in sequences:
            sequence.streaming = False
        for _ in self._run(sequences):
            pass

    def _scored_sequence(
        self, pair: Pair, top: int, request_id: str | None = None, owner: str | None = None, priority: int = 0
    ) -> Sequence:
        prompt, continuation = checked_pair(pair, top, self.config.vocab_size)
        token_ids = [*prompt, *continuation[:-1]]  # nothing is computed from the last token
        sequence = self._sequences(token_ids, None, request_id, owner, priority)[0]
        self._scorer.add(sequence, continuation, top)
        return sequence

    def _hidden(
        self, prompts: abc.Sequence[tuple[abc.Sequence[int], int]], owner: str | None = None
    ) -> Iterator[Tensor]:
        # For (token ids, position) the hidden states (tokens, n_embd) from the position on, as sequences finish.
        collector = HiddenStatesCollector()
        sequences = [self._sequences(token_ids, None, owner=owner)[0] for token_ids, _ in prompts]
        for sequence, (_, hidden_from) in zip(sequences, prompts, strict=True):
            collector.add(sequence, hidden_from)
        with closing(self._steps(sequences)) as steps:
            for sequence in sequences:
                while sequence.finish_reason is None:
                    next(steps)
                yield collector.take(sequence)
