"""What a checkpoint records of itself when it is saved."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from resonance.chat_template import ChatTemplate
from resonance.checkpoint import NEXT_METADATA_FILE, Checkpoint
from resonance.fingerprint import conversation_ids, differences, prompt_logits
from resonance.lora import LoraConfig, inject
from resonance.metadata import Metadata, Verified, scores_sha256
from resonance.model import GPT2, GPT2Config

SIZES = GPT2Config(vocab_size=50257, context_length=32, n_layer=2, n_head=2, n_embd=16, dropout=0.1)


@pytest.fixture
def model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(SIZES).eval()


def save(folder: Path, model: GPT2, **facts: object) -> Checkpoint:
    tokenizer = ChatTemplate.named("alpaca").tokenizer
    return Checkpoint.save(folder, model, tokenizer, replace(Metadata(), **facts))


def test_every_file_of_the_model_is_recorded_with_its_hash(tmp_path: Path, model: GPT2) -> None:
    inject(model, LoraConfig(rank=2))
    folder = save(tmp_path, model).folder
    fingerprint = Checkpoint.open(folder).metadata.fingerprint
    assert fingerprint is not None
    names = {"model.safetensors", "config.json", "vocab.json", "merges.txt", "tokenizer_config.json"}
    assert names < set(fingerprint.files)
    assert "adapter/adapter_model.safetensors" in fingerprint.files
    for name, recorded in fingerprint.files.items():
        assert sha256((folder / name).read_bytes()).hexdigest() == recorded


def test_the_recorded_ids_and_logits_come_out_again(tmp_path: Path, model: GPT2) -> None:
    opened = Checkpoint.open(save(tmp_path, model).folder)
    fingerprint = opened.metadata.fingerprint
    assert fingerprint is not None
    assert fingerprint.conversations == conversation_ids(opened.template())
    assert len(fingerprint.logits) == 4
    largest, within = differences(fingerprint.logits, prompt_logits(opened.load_model(torch.float32)))
    assert within
    assert largest < 1e-5


@pytest.mark.parametrize("name", ["token_embedding", "position_embedding", "blocks.1.feed_forward.fc", "norm"])
def test_logits_tell_other_weights_from_the_saved_ones(name: str, model: GPT2) -> None:
    before = prompt_logits(model)
    with torch.no_grad():
        model.get_submodule(name).weight += 0.05 * torch.randn_like(model.get_submodule(name).weight)
    assert not differences(before, prompt_logits(model))[1]


def test_logits_tell_a_single_edited_token_from_the_saved_one(model: GPT2) -> None:
    before = prompt_logits(model)
    with torch.no_grad():
        model.token_embedding.weight[49_123] *= 3  # a token of none of the prompts
    assert not differences(before, prompt_logits(model))[1]


def test_logits_of_another_precision_of_arithmetic_are_the_same(model: GPT2) -> None:
    largest, within = differences(prompt_logits(model), prompt_logits(model.double()))
    assert within
    assert 0 < largest < 1e-5


def test_saving_draws_no_random_number_and_leaves_the_model_in_training(tmp_path: Path, model: GPT2) -> None:
    model.train()
    state = torch.get_rng_state()
    save(tmp_path, model)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_a_model_smaller_than_the_prompts_has_logits_too(tmp_path: Path) -> None:
    tiny = GPT2(GPT2Config(vocab_size=11, context_length=3, n_layer=1, n_head=1, n_embd=4)).eval()
    assert [len(logits.sums) for logits in prompt_logits(tiny)] == [11] * 4


def test_weights_that_are_not_finite_have_no_recorded_logits(tmp_path: Path, model: GPT2) -> None:
    with torch.no_grad():
        model.norm.bias[0] = torch.nan
    fingerprint = save(tmp_path, model).metadata.fingerprint
    assert fingerprint is not None
    assert fingerprint.logits == []


def test_a_kill_between_new_weights_and_their_record_leaves_the_new_record(tmp_path: Path, model: GPT2) -> None:
    folder = save(tmp_path, model, steps=1).folder
    old = (folder / "resonance.json").read_text()
    with torch.no_grad():
        model.norm.bias += 1
    new = save(folder, model, steps=2).metadata
    (folder / NEXT_METADATA_FILE).write_text((folder / "resonance.json").read_text())
    (folder / "resonance.json").write_text(old)
    opened = Checkpoint.open(folder)
    assert opened.metadata == new
    opened.record_scores({"instruct": {}})
    assert not (folder / NEXT_METADATA_FILE).exists()
    assert Checkpoint.open(folder).metadata == replace(new, scores={"instruct": {}})


def test_a_kill_before_new_weights_leaves_the_old_record(tmp_path: Path, model: GPT2) -> None:
    old = save(tmp_path / "run", model, steps=1)
    with torch.no_grad():
        model.norm.bias += 1
    new = save(tmp_path / "other", model, steps=2)
    (old.folder / NEXT_METADATA_FILE).write_text((new.folder / "resonance.json").read_text())
    assert Checkpoint.open(old.folder).metadata == old.metadata


def test_a_link_to_saved_weights_has_their_fingerprint(tmp_path: Path, model: GPT2) -> None:
    served = save(tmp_path, model)
    tokenizer = served.load_tokenizer()
    last = Checkpoint.save(
        tmp_path / "last", model, tokenizer, served.metadata, same_as=served.folder / "model.safetensors"
    )
    assert last.metadata.fingerprint == served.metadata.fingerprint


def test_the_card_says_verified_only_of_the_weights_and_scores_that_were(tmp_path: Path, model: GPT2) -> None:
    checkpoint = save(tmp_path, model)
    assert checkpoint.metadata.fingerprint is not None
    verified = Verified(
        at="2026-01-02T03:04:05Z",
        by="resonance 0.1.0",
        claims=["model.safetensors", "logits"],
        weights_sha256=checkpoint.metadata.fingerprint.files["model.safetensors"],
        scores_sha256=scores_sha256({}),
    )
    card = tmp_path / "README.md"
    checkpoint = checkpoint.record(verified=verified)
    assert "| Verified | at 2026-01-02T03:04:05Z by resonance 0.1.0: model.safetensors, logits;" in card.read_text()
    checkpoint.record_scores({"instruct": {"exact_match": {"value": 1.0, "n": 1, "ci95": [0.1, 1.0]}}})
    assert "Verified" not in card.read_text()
    checkpoint.record(verified=verified)
    with torch.no_grad():
        model.norm.bias += 1
    assert not save(tmp_path, model, verified=verified).metadata.is_verified
    assert "Verified" not in card.read_text()


def test_a_checkpoint_from_before_fingerprints_opens(tmp_path: Path, model: GPT2) -> None:
    path = save(tmp_path, model).folder / "resonance.json"
    known = json.loads(path.read_text())
    del known["fingerprint"], known["verified"]
    path.write_text(json.dumps(known))
    assert Checkpoint.open(tmp_path).metadata.fingerprint is None


def test_lists_of_numbers_stand_on_one_line_and_texts_are_left_as_they_are(tmp_path: Path) -> None:
    text = "[\n  1,\n  2\n] and [ 3, 4 ]"
    metadata = Metadata(data=text, scores={"t": {"m": {"ci95": [0.25, -1e-07]}}})
    assert '"ci95": [0.25, -1e-07]\n' in metadata.to_json()
    assert Metadata.from_json(metadata.to_json()) == metadata
