"""The tokens that follow a step's chunks: from hidden states, through logits, and sampling or scoring."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from resonance.engine import sampler, scoring
from resonance.engine.model_runner import Runner
from resonance.engine.outputs import TokenLogprob
from resonance.engine.row import Row
from resonance.engine.sequence import Choice, Chunk


def choose_following(runner: Runner, chunks: Sequence[Chunk], hidden: Sequence[Tensor]) -> list[list[Choice]]:
    """For each chunk the tokens that would follow: one, and one more after each drafted token.

    `hidden` has each chunk's wanted states, (wanted, n_embd). Chunks of texts that are scored have the tokens that do
    follow, with their log-probabilities; those whose hidden states are collected, or whose prompts go on, have none.
    """
    generating = [i for i, chunk in enumerate(chunks) if chunk.wanted and chunk.text.generates]
    scored = [i for i, chunk in enumerate(chunks) if chunk.wanted and chunk.text.scored_ids]
    following: list[list[Choice]] = [[] for _ in chunks]
    if generating:
        logits = runner.logits(torch.cat([hidden[i] for i in generating]))  # (rows, V)
        rows = [chunks[i].text.row(chunks[i].drafted[:k]) for i in generating for k in range(chunks[i].wanted)]
        choices = iter(_choose(logits, rows))
        for i in generating:
            following[i] = [next(choices) for _ in range(chunks[i].wanted)]
    if scored:
        scores = iter(scoring.score(runner, [chunks[i] for i in scored], torch.cat([hidden[i] for i in scored])))
        for i in scored:
            following[i] = [(score.token_id, score) for score in islice(scores, chunks[i].wanted)]
    return following


def _choose(logits: Tensor, rows: Sequence[Row]) -> list[Choice]:
    asked = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
    if not asked:
        return [(token_id, None) for token_id in sampler.choose(logits, rows)]
    untouched = logits[asked]  # a copy: the model's own, before penalties and biases
    choices: list[Choice] = [(token_id, None) for token_id in sampler.choose(logits, rows)]
    token_ids = [choices[i][0] for i in asked]
    top = max(rows[i].params.logprobs or 0 for i in asked)
    with sampler.single_thread():
        known = sampler.logprobs(untouched, token_ids, top)
    for i, token_id, (value, alternatives) in zip(asked, token_ids, known, strict=True):
        choices[i] = (token_id, TokenLogprob(token_id, value, alternatives[: rows[i].params.logprobs]))
    return choices
