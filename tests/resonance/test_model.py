"""GPT-2 is GPT-2: its sizes, its causality, and one forward pass for training and inference."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resonance.model import GPT2, document_mask
from resonance.model_config import PRESETS, GPT2Config, ModelError

TINY = GPT2Config(vocab_size=97, context_length=32, n_layer=2, n_head=2, n_embd=16, dropout=0.1)


@pytest.fixture(scope="module")
def tiny() -> GPT2:
    torch.manual_seed(0)
    return GPT2(TINY).eval()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_presets_have_exactly_the_published_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = GPT2(GPT2Config.preset(name))
    assert model.num_parameters() == parameters


def test_gpt2_large_has_the_published_shape() -> None:
    large = GPT2Config.preset("gpt2-large")
    assert (large.n_layer, large.n_embd, large.n_head, large.context_length) == (36, 1280, 20, 1024)


def test_an_untied_head_has_its_own_parameters(tiny: GPT2) -> None:
    untied = GPT2(replace(TINY, tie_weights=False))
    assert untied.num_parameters() == tiny.num_parameters() + 97 * 16
    assert untied.head_weight is not untied.token_embedding.weight
    assert tiny.head_weight is tiny.token_embedding.weight


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_changing_a_later_token_never_changes_an_earlier_logit(tiny: GPT2, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, 96), min_size=2, max_size=32))
    position = data.draw(st.integers(1, len(ids) - 1))
    changed = [*ids[:position], *data.draw(st.lists(st.integers(0, 96), min_size=1, max_size=32 - position))]
    with torch.no_grad():
        before = tiny(torch.tensor([ids]))[0, :position]
        after = tiny(torch.tensor([changed]))[0, :position]
    torch.testing.assert_close(before, after, rtol=0, atol=1e-5)


def test_packed_documents_see_only_themselves(tiny: GPT2) -> None:
    first, second = torch.randint(0, 97, (1, 11)), torch.randint(0, 97, (1, 7))
    packed = torch.cat([first, second], 1)
    documents = torch.tensor([[0] * 11 + [1] * 7])
    positions = torch.cat([torch.arange(11), torch.arange(7)])[None]
    with torch.no_grad():
        together = tiny(packed, position_ids=positions, document_ids=documents)
        alone = torch.cat([tiny(first), tiny(second)], 1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_documents_by_themselves_and_under_a_mask_give_the_same_and_so_do_their_gradients() -> None:
    documents = torch.tensor([[0] * 5 + [1] * 6 + [2] * 1, [0] * 9 + [-1] * 3])
    ids = torch.randint(0, 97, documents.shape)
    apart, masked = GPT2(replace(TINY, dropout=0.0)), GPT2(replace(TINY, dropout=0.0))
    masked.load_state_dict(apart.state_dict())
    x = masked.token_embedding(ids) + masked.position_embedding(torch.arange(12))
    for layer, block in enumerate(masked.blocks):
        x = block(x, document_mask(documents), None, layer)
    under_mask, alone = masked.norm(x), apart(ids, document_ids=documents, return_hidden_states=True)
    torch.testing.assert_close(alone, under_mask, rtol=0, atol=1e-5)
    for hidden in (under_mask, alone):
        hidden.square().sum().backward()
    for (name, mine), theirs in zip(apart.named_parameters(), masked.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_logits_are_computed_only_where_they_are_asked_for(tiny: GPT2) -> None:
    ids = torch.randint(0, 97, (3, 9))
    mask = torch.rand(3, 9) > 0.5
    with torch.no_grad():
        logits = tiny.logits(tiny(ids, return_hidden_states=True)[mask])
        assert logits.shape == (int(mask.sum()), 97)
        torch.testing.assert_close(logits, tiny(ids)[mask])


def test_a_compiled_model_has_the_training_path_too(tiny: GPT2) -> None:
    compiled = torch.compile(tiny, backend="eager")
    ids, documents = torch.randint(0, 97, (2, 9)), torch.tensor([[0] * 4 + [1] * 5, [0] * 9])
    compiled_calls: list[object] = []
    compiled.register_forward_hook(lambda module, inputs, output: compiled_calls.append(module))
    states = compiled(ids, document_ids=documents, return_hidden_states=True)
    assert compiled_calls == [compiled]
    torch.testing.assert_close(states, tiny(ids, document_ids=documents, return_hidden_states=True))


def test_dropout_acts_in_training_only(tiny: GPT2) -> None:
    ids = torch.randint(0, 97, (1, 8))
    model = GPT2(TINY)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_initial_weights_have_openais_scales() -> None:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=2000, context_length=512, n_layer=8, n_head=4, n_embd=256))
    block = model.blocks[0]
    assert model.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.position_embedding.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for projection in (block.attention.proj, block.feed_forward.proj):
        assert projection.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.05)
    assert not block.attention.qkv.bias.any()


def test_resizing_the_vocabulary_keeps_what_was_known(tiny: GPT2) -> None:
    model = GPT2(replace(TINY, tie_weights=False)).eval()
    ids = torch.randint(0, 97, (1, 8))
    with torch.no_grad():
        before = model(ids)
        model.resize_vocab(101)
        after = model(ids)
    assert after.shape == (1, 8, 101)
    assert model.config.vocab_size == 101
    torch.testing.assert_close(after[..., :97], before)
    # A new token is as likely as a usual one, neither impossible nor certain.
    assert after[..., 97:].mean().item() == pytest.approx(before.mean().item(), abs=0.1)


def test_mistakes_are_named(tiny: GPT2) -> None:
    with pytest.raises(ModelError, match=r"n_embd \(10\) must be a multiple of n_head \(3\)"):
        GPT2Config(n_embd=10, n_head=3)
    with pytest.raises(ModelError, match="n_layer must be at least 1, not 0"):
        GPT2Config(n_layer=0)
    with pytest.raises(ModelError, match="no preset 'gpt3'; there are nano, gpt2"):
        GPT2Config.preset("gpt3")
    with pytest.raises(ModelError, match="33 tokens do not fit into a context of 32"):
        tiny(torch.zeros(1, 33, dtype=torch.long))
    assert set(PRESETS) == {"nano", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}
