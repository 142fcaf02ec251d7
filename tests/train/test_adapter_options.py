"""DoRA and compact frozen weights in a run: what it says, what it writes, and that it resumes bit for bit."""

import csv
from pathlib import Path

import pytest
import torch

from resonance import lora
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.model import GPT2, GPT2Config
from resonance.weights import huggingface
from train.run import main

TINY = [
    "adapter=dora",
    "adapter.rank=2",
    "adapter.base_dtype=int8",
    "batch.size=2",
    "data.train_size=24",
    "data.validation_size=4",
    "data.test_size=8",
    "data_cache=false",
    "trainer.accelerator=cpu",
    "trainer.max_steps=4",
    "trainer.val_every_n_steps=2",
    "trainer.log_every_n_steps=1",
    "optimizer.layer_decay=0.5",
    "optimizer.lr=1e-2",
    "scheduler=constant",  # the only one that does not depend on the run's length
    "scheduler.warmup_steps=1",
    "callbacks.samples.every_n_steps=0",
    "callbacks.progress=false",
    "logger=none",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = GPT2(GPT2Config(context_length=64, n_layer=2, n_head=2, n_embd=16))
    huggingface.write(folder, model.config, model.state_dict())
    return folder


def curve(folder: Path) -> list[tuple[str, ...]]:
    names = ("step", "train/loss", "val/loss", "lr", "grad_norm")
    with (folder / "metrics.csv").open(newline="") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def test_a_run_over_an_int8_base_resumes_on_the_same_curve_and_exports_what_it_trained(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*TINY, f"model.weights={base}", f"checkpoints_dir={tmp_path}"]
    main([*options, "run=whole"])
    assert "frozen weights are held in int8 (embeddings in bf16): 1.6 MB instead of 3.2" in capsys.readouterr().out
    for override, sentence in (
        ("adapter.base_dtype=bf16", r"adapter\.base_dtype was int8 and is bf16"),
        ("optimizer.layer_decay=0.7", r"optimizer\.layer_decay was 0\.5 and is 0\.7"),
    ):
        with pytest.raises(ResonanceError, match=sentence):
            main([f"checkpoints_dir={tmp_path}", "resume=whole", override])
    main([*options, "run=resumed", "trainer.max_steps=2"])
    main([f"checkpoints_dir={tmp_path}", "resume=resumed", "trainer.max_steps=4"])
    assert curve(tmp_path / "resumed") == curve(tmp_path / "whole")
    state = torch.load(tmp_path / "resumed" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.rsplit(".", 1)[1] for name in state} == {"lora_a", "lora_b", "lora_magnitude", "new"}
    ours, theirs = (Checkpoint.find(run, tmp_path).load_model() for run in ("resumed", "whole"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    alone = GPT2.from_pretrained(base).eval()
    lora.load(alone, tmp_path / "resumed" / "adapter")
    ids = torch.randint(0, 50259, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(alone(ids), ours(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["adapter.base_dtype=int4"], "adapter.base_dtype must be one of fp32, bf16, int8, not 'int4'"),
        (["trainer.precision=bf16-true"], "keeps the adapter in float32, which trainer.precision=bf16-true does not"),
        (["adapter.dora=2"], "adapter.dora must be true or false, not '2'"),
        (["scheduler=wsd", "scheduler.decay=1.5"], "scheduler.decay must be more than 0 and at most 1, not 1.5"),
        (["scheduler=cosine_restarts", "scheduler.cycles=0"], "scheduler.cycles must be at least 1, not 0"),
        (["optimizer.layer_decay=0"], "optimizer.layer_decay must be more than 0 and at most 1, not 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, base: Path, overrides: list[str], sentence: str) -> None:
    options = [option for option in TINY if not option.startswith("scheduler") or overrides[0][:10] != "scheduler="]
    with pytest.raises(ResonanceError, match=sentence):
        main([*options, f"model.weights={base}", f"checkpoints_dir={tmp_path}", *overrides])
    assert not list(tmp_path.iterdir())
