"""Training an adapter from the command line: trainable weights, the run's files, and resuming."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from resonance import lora
from resonance.checkpoint import Checkpoint
from resonance.model import GPT2, GPT2Config
from resonance.weights import huggingface
from tests.processes import Running, resonance

SMALL = [
    "adapter=lora",
    "adapter.rank=4",
    "model.dropout=0.1",
    "batch.size=2",
    "data.train_size=60",
    "data.validation_size=8",
    "data.test_size=8",
    "trainer.max_steps=12",
    "trainer.log_every_n_steps=1",
    "trainer.val_every_n_steps=6",
    "save.every_n_steps=4",
    "callbacks.samples.every_n_steps=6",
    "callbacks.samples.max_new_tokens=4",
    "optimizer.lr=1e-2",
    "logger=none",
]


def command(root: Path, *overrides: str) -> list[str]:
    return ["train", f"checkpoints_dir={root}", *overrides]


def train(root: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return resonance(*command(root, *overrides))


def curve(root: Path, run: str) -> list[tuple[str, ...]]:
    with (root / run / "metrics.csv").open() as file:
        names = ("step", "epoch", "train/loss", "val/loss", "lr", "grad_norm", "tokens_seen")
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of the usual vocabulary, which chatml's two tokens are not part of."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = GPT2(GPT2Config(context_length=64, n_layer=1, n_head=2, n_embd=32))
    huggingface.write(folder, model.config, model.state_dict())
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The checkpoints folder with one run that nothing disturbed, and what it printed."""
    root = tmp_path_factory.mktemp("checkpoints")
    run = train(root, "run=whole", *SMALL, f"model.weights={base}")
    assert run.returncode == 0, run.stderr
    (root / "printed.txt").write_text(run.stdout)
    return root


def test_only_the_adapter_and_the_new_tokens_train(whole: Path, base: Path) -> None:
    update = 4 * (32 + 96 + 32 + 32 + 32 + 128 + 128 + 32) + 2 * 32
    total = GPT2.from_pretrained(base).num_parameters() + update
    assert f"{update:,} of {total:,} parameters train" in (whole / "printed.txt").read_text()
    losses = [float(row[2]) for row in curve(whole, "whole")]
    assert losses[-1] < losses[0]
    state = torch.load(whole / "whole" / "last.ckpt", weights_only=True)
    assert sum(tensor.numel() for tensor in state["state_dict"].values()) == update
    assert not [name for name in state["state_dict"] if "frozen" in name or "known" in name]


def test_the_weights_are_merged_and_the_adapter_lies_beside_them(whole: Path, base: Path) -> None:
    checkpoint = Checkpoint.find("whole", whole)
    merged, model = checkpoint.load_model(), GPT2.from_pretrained(base)
    for name in ("position_embedding.weight", "norm.weight", "blocks.0.attention.qkv.bias"):
        assert torch.equal(merged.state_dict()[name], model.state_dict()[name]), name
    assert torch.equal(merged.token_embedding.weight[:50257], model.token_embedding.weight)
    lora.load(model, checkpoint.folder / "adapter")
    ids = torch.randint(0, 50259, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids), merged(ids), rtol=0, atol=1e-5)
        assert not torch.allclose(GPT2.from_pretrained(base)(ids % 50257), merged(ids)[..., :50257], atol=1e-2)


def test_the_checkpoint_says_what_was_trained_over_what(whole: Path, base: Path) -> None:
    known = json.loads((whole / "whole" / "resonance.json").read_text())
    adapter = known["adapter"]
    assert (adapter["type"], adapter["rank"], adapter["alpha"], adapter["dropout"]) == ("lora", 4, 16, 0.05)
    assert adapter["targets"] == list(lora.TARGETS)
    assert adapter["new_tokens"] == 2
    assert adapter["base"] == known["base"] == str(base)
    assert "low-rank (LoRA), rank 4" in (whole / "whole" / "README.md").read_text()
    settings = json.loads((whole / "whole" / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base)


def test_transformers_opens_the_merged_folder_as_it_is(whole: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole / "whole").eval()
    ids = torch.randint(0, 50259, (2, 9))
    with torch.no_grad():
        ours = Checkpoint.find("whole", whole).load_model()(ids)
        torch.testing.assert_close(theirs(ids).logits, ours, rtol=0, atol=1e-5)


def test_samples_are_the_adapted_models(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "whole" / "samples.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} == {6, 12}


def test_a_killed_run_resumes_on_the_same_loss_curve(whole: Path, base: Path) -> None:
    name, killed_at = "killed", 7
    process = Running(command(whole, f"run={name}", *SMALL, f"model.weights={base}"))
    process.wait_for_lines(whole / name / "metrics.csv", killed_at)
    process.kill()
    run = train(whole, f"resume={name}")
    assert run.returncode == 0, run.stderr
    assert curve(whole, name) == curve(whole, "whole")
    ours, theirs = (Checkpoint.find(run, whole).load_model().state_dict() for run in (name, "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_resume_refuses_another_adapter_and_another_base_and_then_still_goes_on(
    whole: Path, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    model = GPT2(GPT2Config(context_length=64, n_layer=1, n_head=2, n_embd=32))
    huggingface.write(other, model.config, model.state_dict())

    def refused(override: str, sentence: str) -> None:
        run = train(whole, "resume=whole", override)
        assert run.returncode == 2, run.stderr
        assert sentence in run.stderr
        assert len(run.stderr.strip().splitlines()) == 1

    refused("adapter.rank=8", "adapter.rank was 4 and is 8, which a resumed run cannot change")
    refused(f"model.weights={other}", "model.weights was")
    refused("adapter=none", "only single keys can change")
    kept = (base / "model.safetensors").read_bytes()
    shutil.copyfile(other / "model.safetensors", base / "model.safetensors")
    refused("trainer.max_steps=13", "not those that the run began with")
    (base / "model.safetensors").write_bytes(kept)
    assert yaml.safe_load((whole / "whole" / "train.yaml").read_text())["adapter"]["rank"] == 4
    assert train(whole, "resume=whole").returncode == 0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("adapter=lore", "There is no adapter 'lore'; did you mean 'lora'?"),
        ("adapter.rank=0", "adapter.rank must be at least 1, not 0."),
        ("adapter.rank=33", "An adapter's rank must be at most the model's width, 32, not 33."),
        ("adapter.dropout=1", "adapter.dropout must be 0 or more and less than 1, not 1."),
        ("adapter.targets=attention.query", "feed_forward.proj, not attention.query."),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, base: Path, override: str, sentence: str
) -> None:
    run = train(tmp_path, *SMALL, f"model.weights={base}", override)
    assert run.returncode == 2
    assert sentence in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_adapter_over_random_weights_trains_and_says_that_they_are_random(tmp_path: Path) -> None:
    sizes = ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.context_length=64"]
    run = train(tmp_path, "run=random", *SMALL, *sizes, "trainer.max_steps=2")
    assert run.returncode == 0, run.stderr
    assert "an adapter over random weights learns little" in run.stdout
    adapter = Checkpoint.find("random", tmp_path).metadata.adapter
    assert adapter is not None and adapter["base"] is None
