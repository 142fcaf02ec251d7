"""The options of supervised fine-tuning: which tokens the loss is on, their weights, smoothing, noise and averaging."""

import csv
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from resonance.checkpoint import Checkpoint
from resonance.model import GPT2, GPT2Config
from tests.train.tiny_runs import CONSTANT_RATE, TINY_RUN
from train.ema import WeightAverage
from train.losses import IGNORE, labels_of_all_tokens, position_weights, supervised_loss
from train.neftune import noisy_embeddings
from train.objectives import SFT
from train.run import main
from train.step_batch import prepare

TINY = [
    *TINY_RUN,
    *CONSTANT_RATE,
    "optimizer.lr=1e-2",
    "trainer.max_steps=4",
    "trainer.val_every_n_steps=2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]
# Two rows: two documents of 4 tokens and padding; one document of 7 with two turns.
INPUT_IDS = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 0], [1, 2, 3, 4, 5, 6, 7, 0, 0]])
DOCUMENT_IDS = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, -1], [2, 2, 2, 2, 2, 2, 2, -1, -1]])
X = IGNORE
LABELS = torch.tensor([[X, X, 4, 9, X, X, X, 9, X], [X, 3, X, X, 6, 7, 9, X, X]])


def curve(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "metrics.csv").open(newline="") as file:
        names = ("step", "train/loss", "val/loss", "lr", "grad_norm", "tokens_seen")
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def test_a_loss_on_all_tokens_learns_each_next_token_of_a_document() -> None:
    labels = labels_of_all_tokens(INPUT_IDS, LABELS, DOCUMENT_IDS)
    assert labels.tolist() == [[2, 3, 4, 9, 6, 7, 8, 9, X], [2, 3, 4, 5, 6, 7, 9, X, X]]


def test_examples_and_turns_weigh_the_same_whatever_their_length() -> None:
    weights, count = position_weights(LABELS, DOCUMENT_IDS, of="example")
    assert count == 3
    quarter = pytest.approx(0.25)
    assert weights.tolist() == [[0, 0, 0.5, 0.5, 0, 0, 0, 1, 0], [0, quarter, 0, 0, quarter, quarter, quarter, 0, 0]]
    weights, count = position_weights(LABELS, DOCUMENT_IDS, of="turn")
    third = pytest.approx(1 / 3)
    assert count == 4
    assert weights.tolist() == [[0, 0, 0.5, 0.5, 0, 0, 0, 1, 0], [0, 1, 0, 0, third, third, third, 0, 0]]


def test_answers_of_adjacent_documents_are_two_turns() -> None:
    labels, documents = torch.tensor([[X, 5, 6, 7]]), torch.tensor([[0, 0, 1, 1]])
    assert position_weights(labels, documents, of="turn")[1] == 2


def test_a_batch_without_labels_has_no_examples() -> None:
    weights, count = position_weights(torch.full((1, 4), X), torch.full((1, 4), -1), of="turn")
    assert count == 0 and not weights.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_weights_and_smoothing_are_those_of_plain_cross_entropy(smoothing: float) -> None:
    values = []
    weights = torch.rand(2, 9, generator=torch.Generator().manual_seed(1))
    for plain in (True, False):
        torch.manual_seed(0)
        hidden, head = torch.randn(2, 9, 8, requires_grad=True), torch.randn(61, 8, requires_grad=True)
        if plain:
            losses = F.cross_entropy(
                F.linear(hidden, head).flatten(0, 1),
                LABELS.flatten(),
                ignore_index=X,
                reduction="none",
                label_smoothing=smoothing,
            )
            loss = (losses * weights.flatten()).sum()
        else:
            loss, _ = supervised_loss(hidden, head, LABELS, weights=weights, label_smoothing=smoothing, chunk=3)
        loss.backward()
        values.append((loss.detach(), hidden.grad, head.grad))
    for ours, theirs in zip(values[1], values[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_noise_is_within_the_limit_of_each_documents_length_and_ends_with_the_block() -> None:
    model = GPT2(GPT2Config(vocab_size=61, context_length=16, n_layer=1, n_head=2, n_embd=8))
    plain = model.token_embedding(INPUT_IDS)
    torch.manual_seed(0)
    batch = {"input_ids": INPUT_IDS, "labels": LABELS, "document_ids": DOCUMENT_IDS}
    sizes = prepare(batch, SFT(neftune_alpha=5.0))["document_sizes"]
    with noisy_embeddings(model, sizes, 5.0):
        noise = model.token_embedding(INPUT_IDS) - plain  # (2, 9, 8)
    assert torch.equal(model.token_embedding(INPUT_IDS), plain)
    largest = noise.detach().abs().amax(-1)
    for document, tokens in ((0, 4), (1, 4), (2, 7)):
        limit = 5 / (tokens * 8) ** 0.5
        assert 0.8 * limit < float(largest[document == DOCUMENT_IDS].max()) <= limit


def test_averages_follow_the_weights_and_are_in_the_model_inside_the_block_only() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average, averages = WeightAverage(layer, 0.5), []
    for t, value in enumerate((1.0, 2.0, 4.0, -8.0), start=1):
        torch.nn.init.constant_(layer.weight, value)
        average.update()
        decay = min(0.5, t / (t + 9))
        averages.append(decay * averages[-1] + (1 - decay) * value if averages else value)
        with average.applied(), average.applied():
            assert float(layer.weight) == pytest.approx(averages[-1])
        assert float(layer.weight) == value


OPTIONS = [
    "objective.weight=turn",
    "objective.label_smoothing=0.1",
    "objective.neftune_alpha=5",
    "objective.ema_decay=0.5",
    "trainer.accumulate_grad_batches=2",
]


def test_a_resumed_run_has_the_same_noise_and_the_same_averages(tmp_path: Path) -> None:
    main([f"checkpoints_dir={tmp_path}", "run=whole", *TINY, *OPTIONS])
    main([f"checkpoints_dir={tmp_path}", "run=parts", *TINY, *OPTIONS, "trainer.max_steps=2"])
    main([f"checkpoints_dir={tmp_path}", "resume=parts", "trainer.max_steps=4"])
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    for folder in ("", "/last"):
        whole, parts = (Checkpoint.find(f"{run}{folder}", tmp_path).load_model() for run in ("whole", "parts"))
        for name, value in whole.state_dict().items():
            assert torch.equal(value, parts.state_dict()[name]), name


def test_the_averages_are_served_and_the_card_says_so(tmp_path: Path) -> None:
    main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "objective.ema_decay=0.5"])
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    served = Checkpoint.find("run/last", tmp_path).load_model().state_dict()
    name = "blocks.0.attention.qkv.weight"
    assert torch.equal(served[name], state["ema"]["averages"][name])
    assert not torch.equal(served[name], state["state_dict"][f"model.{name}"])
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| Objective | sft, ema_decay 0.5 |" in card
    assert "| Averaged | these weights are an exponential moving average of the trained ones (decay 0.5) |" in card


def test_validation_measures_the_same_whatever_the_options_of_training(tmp_path: Path) -> None:
    at_rest = ["optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.max_steps=2"]
    losses = []
    for run, options in (("plain", []), ("all", ["objective.loss_on=all", "objective.label_smoothing=0.2"])):
        main([f"checkpoints_dir={tmp_path}", f"run={run}", *TINY, *at_rest, *options])
        losses.append([(row[1], row[2]) for row in curve(tmp_path / run)])
    assert losses[0][-1][1] == losses[1][-1][1] != ""
    assert losses[0][0][0] != losses[1][0][0]
