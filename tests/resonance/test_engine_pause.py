"""A request that is paused costs others nothing, and says the same as one that is not."""

import random
from collections import defaultdict

import pytest
import torch

from resonance.engine import Engine, SamplingParams
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=97, context_length=64, n_layer=2, n_head=2, n_embd=32)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(CONFIG).eval()


def run(engine: Engine, said: dict[str, list[int]], steps: int | None = None) -> None:
    """Step until nothing can go on, or so often."""
    while engine.has_work and steps != 0:
        steps = None if steps is None else steps - 1
        for request_id, piece in engine.step():
            if piece.token_id is not None:
                said[f"{request_id}/{piece.index}"].append(piece.token_id)


def test_a_paused_request_says_nothing_and_its_slot_goes_to_one_that_waits(model: GPT2) -> None:
    params = SamplingParams(max_new_tokens=20, temperature=0)
    alone = [Engine(model).generate([[i, 2, 3]], params)[0].token_ids for i in range(2)]
    engine = Engine(model, max_batch_size=1)
    said: dict[str, list[int]] = defaultdict(list)
    engine.submit([0, 2, 3], params, request_id="slow")
    run(engine, said, steps=5)
    before = len(said["slow/0"])
    engine.pause("slow")
    assert not engine.has_work
    engine.submit([1, 2, 3], params, request_id="quick")
    run(engine, said)
    assert said["quick/0"] == alone[1]
    assert len(said["slow/0"]) == before
    engine.resume("slow")
    run(engine, said)
    assert said["slow/0"] == alone[0]


def test_a_paused_request_can_be_cancelled_with_and_without_a_slot(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=1)
    params = SamplingParams(max_new_tokens=20, ignore_eos=True)
    for name in ("running", "waiting"):
        engine.submit([1, 2], params, request_id=name)
    engine.step()
    for name in ("running", "waiting"):
        engine.pause(name)
        assert engine.cancel(name)
    assert [piece.finish_reason for _, piece in engine.step()] == ["cancelled", "cancelled"]
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)
    engine.pause("nobody")
    engine.resume("nobody")


@pytest.mark.parametrize("seed", range(6))
def test_pauses_at_random_change_no_token(model: GPT2, seed: int) -> None:
    chance = random.Random(seed)
    prompts = [[chance.randrange(97) for _ in range(chance.randint(1, 30))] for _ in range(6)]
    params = [SamplingParams(max_new_tokens=chance.randint(1, 30), seed=i, n=chance.choice([1, 3])) for i in range(6)]
    alone = {
        f"{i}/{done.index}": done.token_ids
        for i in range(6)
        for done in Engine(model).generate([prompts[i]], params[i])
    }
    engine = Engine(model, max_batch_size=2)
    said: dict[str, list[int]] = defaultdict(list)
    for i in range(6):
        engine.submit(prompts[i], params[i], request_id=str(i))
    for _ in range(200):
        chosen = str(chance.randrange(6))
        chance.choice([engine.pause, engine.resume])(chosen)
        run(engine, said, steps=1)
    for i in range(6):
        engine.resume(str(i))
    run(engine, said)
    ended = {name: ids[: len(alone[name])] for name, ids in said.items()}  # without the token that ends a text
    assert ended == {name: ids for name, ids in alone.items() if name in said}
    assert engine.stats().hit_rate <= 1
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)
