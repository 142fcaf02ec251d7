"""The card of a served checkpoint: what it can do, and where its run is kept."""

import json

from resonance import GPT2, Checkpoint, GPT2Config, Message, Tokenizer
from resonance.metadata import Metadata
from serve.models.served_model import ServedModel
from serve.settings import Sampling

SAMPLING = Sampling(max_new_tokens=90, temperature=0.3, top_k=7, top_p=0.9, min_p=0.1, repetition_penalty=1.2)


def save(folder, metadata=None):
    model = GPT2(GPT2Config(context_length=256, n_layer=1, n_head=1, n_embd=8))
    Checkpoint.save(folder, model, Tokenizer.gpt2(), metadata)


def card(folder):
    return ServedModel.open("tiny", str(folder), None).card(SAMPLING).resonance


def test_the_card_lists_the_kinds_of_tasks_best_first_and_links_to_the_run(tmp_path):
    folder = tmp_path / "runs" / "tiny"
    save(folder)
    plain = card(folder)
    assert plain.families == []
    assert plain.sampling.model_dump() == SAMPLING.model_dump()
    assert plain.run is not None
    assert (plain.run.folder, plain.run.url) == ("runs/tiny", None)
    by_family = {"sums": {"value": 0.5, "n": 4}, "capitals": {"value": 1.0, "n": 4}}
    (folder / "eval.json").write_text(json.dumps({"tasks": {"instruct": {"by_family": by_family}}}))
    (folder / "wandb").mkdir()
    (folder / "wandb" / "url.txt").write_text("https://wandb.ai/someone/resonance/runs/tiny\n")
    known = card(folder)
    assert known.families == ["capitals", "sums"]
    assert known.run is not None
    assert known.run.url == "https://wandb.ai/someone/resonance/runs/tiny"


def test_an_evaluation_that_cannot_be_read_and_a_link_that_is_none_are_left_out(tmp_path):
    save(tmp_path)
    (tmp_path / "eval.json").write_text('{"tasks": []}')
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "url.txt").write_text("javascript:alert(1)")
    found = card(tmp_path)
    assert found.families == []
    assert found.run is not None
    assert found.run.url is None


TALK = [Message(role, "Well then.") for _ in range(6) for role in ("user", "assistant")]
QUESTION = Message("user", "And now?")


def kept(folder, context_length=None):
    """How many tokens of prompt the server makes of a long conversation."""
    return len(ServedModel.open("tiny", str(folder), context_length).fit([*TALK, QUESTION], 16).prompt_ids)


def test_older_turns_are_kept_up_to_the_length_that_the_checkpoint_was_trained_on(tmp_path):
    save(tmp_path, Metadata(trained_length=120))
    assert 60 < kept(tmp_path) <= 104
    assert card(tmp_path).trained_length == 120
    assert card(tmp_path).context_length == 256
    model = ServedModel.open("tiny", str(tmp_path), None)
    assert len(model.fit([*TALK, Message("user", "word " * 150)], 16).prompt_ids) > 150


def test_a_context_length_that_the_server_is_given_comes_before_the_length_trained_on(tmp_path):
    save(tmp_path, Metadata(trained_length=120))
    assert 120 < kept(tmp_path, context_length=200) <= 184


def test_a_checkpoint_that_does_not_know_its_length_is_served_to_its_full_context(tmp_path):
    save(tmp_path)
    assert kept(tmp_path) > 120
    assert card(tmp_path).trained_length is None
