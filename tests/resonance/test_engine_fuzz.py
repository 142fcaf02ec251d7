"""Random requests that come and go in random engines, against forward passes over each whole text."""

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resonance.engine import Completion, Engine, Piece, SamplingParams, sampler
from resonance.engine.sampling_params import SamplingMetadata
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=97, context_length=96, n_layer=2, n_head=2, n_embd=32)
EOS = 13
NEARLY = 1e-3  # where logits that differ by so little give other tokens, either is right


@dataclass(slots=True)
class Asked:
    """A request, when it comes and goes, and what came of it."""

    prompt: list[int]
    params: SamplingParams
    owner: str | None
    priority: int
    arrives: int  # in steps
    cancelled: int | None  # so many steps after it came
    pieces: dict[int, list[Piece]] = field(default_factory=lambda: defaultdict(list))  # by answer

    def token_ids(self, index: int) -> list[int]:
        return [piece.token_id for piece in self.pieces[index] if piece.token_id is not None]


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from uniform, so that an error shows
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


@pytest.fixture(scope="module")
def kin(model: GPT2) -> GPT2:
    """A model that often, not always, says what the other one does."""
    torch.manual_seed(1)
    kin = GPT2(CONFIG).eval()
    kin.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in kin.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return kin


def random_prompt(chance: random.Random, conversations: list[list[int]]) -> list[int]:
    """The beginning of a conversation and a few tokens of its own; of any length that the context holds."""
    beginning = chance.choice(conversations)[: chance.choice([0, 1, 15, 16, 17, 40, 70, chance.randrange(97)])]
    prompt = beginning + [chance.randrange(97) for _ in range(chance.choice([0, 1, 3]))]
    return prompt[:96] or [EOS]


def random_params(chance: random.Random) -> SamplingParams:
    def sometimes(value: object, otherwise: object) -> object:
        return value if chance.random() < 0.25 else otherwise

    def some_ids(most: int) -> tuple[int, ...]:
        return tuple(chance.sample(range(97), chance.randint(1, most)))

    most = chance.choice([1, 2, 5, 12, 25, 200])
    return SamplingParams(
        max_new_tokens=most,
        temperature=chance.choice([0, 0, 0.3, 1, 1.7]),
        top_k=sometimes(chance.choice([1, 2, 7, 30, 500]), 0),
        top_p=sometimes(chance.choice([0.3, 0.9, 0.999]), 1.0),
        min_p=sometimes(0.05, 0.0),
        typical_p=sometimes(0.8, 1.0),
        repetition_penalty=sometimes(chance.choice([0.6, 1.4]), 1.0),
        presence_penalty=sometimes(0.7, 0.0),
        frequency_penalty=sometimes(0.4, 0.0),
        logit_bias=sometimes({i: chance.uniform(-5, 5) for i in some_ids(5)}, None),
        banned_token_ids=sometimes(some_ids(60), ()),
        forced_token_ids=sometimes(some_ids(min(most, 4)), ()),
        stop_token_ids=sometimes(some_ids(6), ()),
        min_new_tokens=sometimes(chance.randint(0, most), 0),
        ignore_eos=chance.random() < 0.3,
        seed=chance.choice([0, 7, -1, 2**63, chance.randrange(2**70)]),
        logprobs=sometimes(chance.choice([0, 3]), None),
        n=chance.choice([1, 1, 1, 2, 3]),
    )


def random_requests(chance: random.Random) -> list[Asked]:
    conversations = [[chance.randrange(97) for _ in range(12)] * 8 for _ in range(3)]  # which quote themselves
    clock, requests = 0, list[Asked]()
    for _ in range(chance.randint(1, 14)):
        clock += chance.choice([0, 0, 1, 4])
        requests.append(
            Asked(
                random_prompt(chance, conversations),
                random_params(chance),
                chance.choice([None, None, "ann", "bob"]),
                chance.randint(0, 2),
                clock,
                chance.choice([None, None, None, chance.randint(0, 12)]),
            )
        )
    return requests


def serve(engine: Engine, requests: list[Asked]) -> None:
    """Let requests come and go as they want to; every answer must end once, and nothing may follow its end."""
    names = {f"request {i}": asked for i, asked in enumerate(requests)}
    clock, open_ids = 0, set[str]()
    while engine.has_work or any(asked.arrives >= clock for asked in requests):
        for name, asked in names.items():
            if asked.arrives == clock:
                engine.submit(asked.prompt, asked.params, request_id=name, owner=asked.owner, priority=asked.priority)
                open_ids.add(name)
            if asked.cancelled is not None and asked.arrives + asked.cancelled == clock:
                assert engine.cancel(name) == (name in open_ids)
        for name, piece in engine.step():
            answer = names[name].pieces[piece.index]
            assert not answer or answer[-1].finish_reason is None
            answer.append(piece)
            ends = [pieces[-1].finish_reason for pieces in names[name].pieces.values()]
            if len(ends) == names[name].params.n and all(ends):
                open_ids.discard(name)
        clock += 1
    assert not open_ids


def check_against_forward_pass(model: GPT2, asked: Asked, index: int) -> None:
    """Each token is the one that sampling chooses from a forward pass over everything before it, to its end."""
    token_ids, params = asked.token_ids(index), asked.params
    end_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else {EOS})
    seed = params.seed or 0
    with torch.no_grad():
        logits = model(torch.tensor([[*asked.prompt, *token_ids][: CONFIG.context_length]]))[0]
    for place, token_id in enumerate(token_ids):
        before = [*asked.prompt, *token_ids[:place]]
        row = SamplingMetadata(params, seed + index * 0x9E3779B97F4A7C15, before, len(asked.prompt), end_ids)
        assert token_id in choices(logits[len(before) - 1], row, token_id)
        assert (token_id in end_ids) <= (place == len(token_ids) - 1)
    reason = asked.pieces[index][-1].finish_reason
    room = min(params.max_new_tokens, CONFIG.context_length + 1 - len(asked.prompt))
    if reason == "stop":
        assert token_ids[-1] in end_ids
    elif reason == "length":
        assert len(token_ids) == room
    else:
        assert (reason, asked.cancelled is not None) == ("cancelled", True)


def choices(logits: Tensor, row: SamplingMetadata, hoped: int) -> set[int]:
    """What sampling chooses from these logits, and, where that is not what was hoped for, from any near them."""
    chosen = set(sampler.sample(logits[None].clone(), [row]))
    if hoped not in chosen:
        noise = torch.randn(64, len(logits), generator=torch.Generator().manual_seed(0))
        chosen.update(sampler.sample(logits + NEARLY * noise, [row] * len(noise)))
    return chosen


def check_against_being_alone(alone: Engine, asked: Asked) -> None:
    """Bit for bit: tokens and log-probabilities are those of an engine that has nothing else to do."""
    completions: list[Completion] = alone.generate([asked.prompt], replace(asked.params, logprobs=3), owner="nobody")
    for completion in completions:
        pieces = [piece for piece in asked.pieces[completion.index] if piece.token_id is not None]
        said = asked.token_ids(completion.index)[: len(completion.token_ids)]
        assert said == completion.token_ids[: len(said)]
        if asked.params.logprobs is not None:
            for piece, known in zip(pieces, completion.logprobs or (), strict=False):
                assert piece.logprob == known.logprob
                assert piece.top_logprobs == known.top_logprobs[: asked.params.logprobs]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_texts_are_those_of_whole_forward_passes_whatever_happens_around_them(
    model: GPT2, kin: GPT2, seed: int
) -> None:
    chance = random.Random(seed)
    guessing = chance.choice([{}, {"prompt_lookup": True}, {"draft": kin}])
    engine = Engine(model, max_batch_size=chance.randint(1, 5), eos_id=EOS, **guessing)
    requests = random_requests(chance)
    serve(engine, requests)
    exact = engine.stats().path == "C++ kernels"
    for asked in requests:
        for index in range(asked.params.n):
            check_against_forward_pass(model, asked, index)
        if exact:
            check_against_being_alone(Engine(model, max_batch_size=1, eos_id=EOS), asked)
    stats = engine.stats()
    answers = [(asked, index) for asked in requests for index in range(asked.params.n)]
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.requests == len(requests)
    assert stats.generated_tokens == sum(len(asked.token_ids(index)) for asked, index in answers)
    assert stats.cancelled == sum(
        any(pieces[-1].finish_reason == "cancelled" for pieces in asked.pieces.values()) for asked in requests
    )
    assert stats.cached_tokens < sum(len(asked.prompt) for asked, _ in answers)
    assert stats.accepted_tokens <= stats.drafted_tokens
    assert stats.drafted_tokens == 0 or guessing
