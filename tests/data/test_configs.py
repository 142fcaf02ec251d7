"""Every data config sets all arguments of its source, with a comment on each key."""

from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate

from data.sources import Source

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "data").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_makes_its_source(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "path" in config:
        config["path"] = config["path"] or "data.jsonl"
    assert isinstance(instantiate(config), Source)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_first_line_says_what_the_data_is(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
