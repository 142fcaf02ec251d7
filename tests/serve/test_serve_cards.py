"""The card of a served checkpoint: what it can do, and where its run is kept."""

import json

from resonance import GPT2, Checkpoint, GPT2Config, Tokenizer
from serve.http.models import ServedModel


def save(folder):
    Checkpoint.save(folder, GPT2(GPT2Config(context_length=32, n_layer=1, n_head=1, n_embd=8)), Tokenizer.gpt2())


def card(folder):
    return ServedModel.open("tiny", str(folder), None).card().resonance


def test_the_card_lists_the_kinds_of_tasks_best_first_and_links_to_the_run(tmp_path):
    folder = tmp_path / "runs" / "tiny"
    save(folder)
    plain = card(folder)
    assert plain.families == []
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
