"""Hydra's own flags work for every command."""

from pathlib import Path

import pytest
import yaml

from resonance import hydra_config
from resonance.cli.main import find_commands, run


@pytest.fixture(autouse=True)
def no_folders_left():
    yield
    hydra_config.use_config_folders([], [])


@pytest.fixture
def own_configs(tmp_path: Path) -> Path:
    """A folder of configs with an experiment and a model of a user's own."""
    for group, name, text in (
        ("experiment", "mine", "# @package _global_\n# Mine.\ndefaults:\n  - override /model: tiny\nseed: 77\n"),
        ("model", "tiny", "# Tiny.\ndefaults:\n  - nano\nname: tiny\nn_layer: 1\n"),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text(text)
    return tmp_path


def test_every_command_prints_its_config(capfd: pytest.CaptureFixture[str]) -> None:
    for command in find_commands():
        assert run([command, "--cfg", "job"]) == 0
        printed = yaml.safe_load(capfd.readouterr().out)
        assert printed and "hydra" not in printed


def test_cfg_prints_the_config_with_its_overrides_and_runs_nothing(tmp_path: Path, capfd) -> None:
    assert run(["train", f"checkpoints_dir={tmp_path}", "model=gpt2", "+mine=3", "--cfg=job"]) == 0
    printed = yaml.safe_load(capfd.readouterr().out)
    assert (printed["model"]["name"], printed["mine"]) == ("gpt2", 3)
    assert not list(tmp_path.iterdir())
    assert run(["train", "-c", "job", "-p", "optimizer", "optimizer.lr=0.5"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["lr"] == 0.5
    assert run(["train", "--cfg", "hydra", "hydra.sweep.dir=here"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["hydra"]["sweep"]["dir"] == "here"


def test_info_says_how_a_config_is_composed(own_configs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--info", "defaults-tree", "model=gpt2"]) == 0
    assert "model: gpt2" in capfd.readouterr().out
    assert run(["train", "--info", "searchpath", "--config-dir", str(own_configs)]) == 0
    assert str(own_configs) in capfd.readouterr().out
    assert run(["train", "--info", "model=gpt2"]) == 0  # everything
    assert "BasicLauncher" in capfd.readouterr().out


@pytest.mark.parametrize("form", ["--config-dir {}", "--config-dir={}", "-cd {}", "hydra.searchpath=[file://{}]"])
def test_a_folder_of_ones_own_adds_choices(form: str, own_configs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["train", *form.format(own_configs).split(), "experiment=mine"]
    assert run([*line, "--cfg", "job"]) == 0
    printed = yaml.safe_load(capfd.readouterr().out)
    assert (printed["model"]["name"], printed["model"]["n_layer"], printed["seed"]) == ("tiny", 1, 77)
    assert run([*line, "model=tini", "--cfg", "job"]) == 2
    assert "There is no model 'tini'; did you mean 'tiny'?" in capfd.readouterr().err


def test_the_config_path_comes_before_our_own_configs(own_configs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (own_configs / "train.yaml").write_text("defaults:\n  - model: tiny\n  - template: alpaca\n")
    (own_configs / "template").mkdir()
    (own_configs / "template" / "alpaca.yaml").write_text("name: mine\n")
    assert run(["train", "--config-path", str(own_configs), "--cfg", "job"]) == 0
    printed = yaml.safe_load(capfd.readouterr().out)
    assert printed.keys() == {"model", "template"}
    assert printed["template"] == {"name": "mine"}
    assert run(["train", "--config-dir", str(own_configs), "--cfg", "job", "template=alpaca"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["template"]["name"] == "alpaca"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train --cfg jobs", "There is no --cfg 'jobs'; did you mean 'job'?"),
        ("train --cfg", "--cfg needs a value after it."),
        ("train --cfg job trainr.max_steps=3", "There is no key 'trainr.max_steps'; did you mean 'trainer.max_steps'?"),
        ("train --cfg job --package optimiser", "There is no node 'optimiser'; did you mean 'optimizer'?"),
        ("train --info plugin", "There is no --info 'plugin'; did you mean 'plugins'?"),
        ("train --resolve", "add --cfg job"),
        ("train --info=al", "There is no --info 'al'; did you mean 'all'?"),
        ("train --config-dir /nowhere", "There is no folder /nowhere to search for configs."),
        ("train hydra.searchpath=here", "hydra.searchpath is a list"),
        (
            "train hydra.searchpath=[pkg://nowhere.configs]",
            "There is no package nowhere.configs to search for configs.",
        ),
        ("train --confg-dir /tmp", "There is no option '--confg-dir'"),
        ("chat --multirun", "resonance chat has no --multirun; resonance train has."),
        ("train hydra/launcher=basic", "add --multirun"),
        ("train --cfg hydra hydra/launcher=basik", "There is no hydra/launcher 'basik'; did you mean 'basic'?"),
        ("train --cfg hydra hydra.sweep.dri=x", "There is no key 'hydra.sweep.dri'; did you mean 'hydra.sweep.dir'?"),
        ("train optimizer.lr=1e-3,3e-4", "stands for several values, which --multirun runs one by one"),
        ("train model=gpt2,nano", "stands for several values"),
    ],
)
def test_a_mistake_is_one_sentence(line: str, sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    printed = capfd.readouterr()
    assert sentence in printed.err
    assert len(printed.err.strip().splitlines()) == 1 and not printed.out
