"""Mistakes in configs are answered with the nearest right name, before anything happens."""

import pytest

from resonance.hydra_config import ConfigError, compose, group_options, override_values, single_values


def test_overrides_and_groups_compose() -> None:
    config = compose("train", ["model=gpt2", "trainer.max_steps=7", "experiment=demo"])
    assert config.trainer.max_steps == 7
    assert config.model.name == "gpt2"
    assert config.template.name == "chatml"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("trainr.max_steps=3", "no key 'trainr.max_steps'; did you mean 'trainer.max_steps'?"),
        ("scheduler.cycles=2", "no key 'scheduler.cycles'; scheduler=cosine_restarts would have it."),
        ("adapter.rank=4", "no key 'adapter.rank'; adapter=dora and adapter=lora would have it."),
        ("callbacks.evaluate.limit=4", "no key 'callbacks.evaluate.limit'; callbacks=evaluate would have it."),
        ("debug=fdr callbacks.samples.count=1", "no key 'callbacks.samples.count', as callbacks.samples is false."),
        (
            "callbacks.samples=false callbacks.samples.count=1",
            "callbacks.samples.count cannot be set beside another value of callbacks.samples.",
        ),
        ("seeed=3", "no key 'seeed'; did you mean 'seed'?"),
        ("model=gpt2-larg", "no model 'gpt2-larg'; did you mean 'gpt2-large'?"),
        ("experiment=demoo", "no experiment 'demoo'; did you mean 'demo'?"),
        ("optimiser=adamw", "no key 'optimiser'; did you mean 'optimizer'?"),
        ("batch.size=many", "batch.size must be a whole number, not 'many'."),
        ("optimizer.lr=fast", "optimizer.lr must be a number, not 'fast'."),
        ("batch.packing=3", "batch.packing must be true or false, not '3'."),
        ("batch.size=true", "batch.size must be a whole number, not 'True'."),
    ],
)
def test_a_mistake_is_named_with_the_nearest_right_one(overrides: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose("train", overrides.split())
    assert sentence in str(error.value)


def test_text_that_is_not_hydras_grammar_is_text() -> None:
    assert compose("train", ["data=json", "data.path=/tmp/a (1), it's=b.json"]).data.path == "/tmp/a (1), it's=b.json"


def test_several_values_stand_for_one_override_each() -> None:
    assert single_values("optimizer=glob(adam*)") == ["optimizer=adamw", "optimizer=adamw_8bit"]
    assert single_values("seed=range(1,3)") == ["seed=1", "seed=2"]
    assert single_values("optimizer.lr=interval(1,2)") == ["optimizer.lr=1.0", "optimizer.lr=2.0"]
    assert single_values("run=a, b") == ["run=a", "run=b"]


def test_a_stored_config_takes_values_but_no_groups() -> None:
    stored = compose("train", ["experiment=demo"])
    assert override_values(stored, ["trainer.max_steps=5"]).trainer.max_steps == 5
    assert stored.trainer.max_steps != 5
    with pytest.raises(ConfigError, match="only single keys can change"):
        override_values(stored, ["model=gpt2"])
    with pytest.raises(ConfigError, match=r"did you mean 'trainer\.max_steps'"):
        override_values(stored, ["trainer.max_step=5"])


def test_every_choice_of_every_group_composes() -> None:
    for group in ("model", "template", "data", "optimizer", "scheduler", "logger", "experiment"):
        for choice in group_options(group):
            compose("train", [f"{group}={choice}"])


def test_every_experiment_and_model_is_documented_by_its_first_line() -> None:
    from resonance.hydra_config import CONFIGS

    for path in CONFIGS.glob("*/*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), path
