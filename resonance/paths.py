"""Where the configs, the checkpoints and the downloads are."""

import os
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]  # a checkout, or the site-packages of an installation
IS_CHECKOUT = (PROJECT_ROOT / "pyproject.toml").is_file()
CONFIGS = PROJECT_ROOT / "configs"
CHECKPOINTS = (PROJECT_ROOT if IS_CHECKOUT else Path.cwd()) / "checkpoints"


def home() -> Path:
    """The folder of downloads and caches: `RESONANCE_HOME`, else `~/.cache/resonance`."""
    return Path(os.environ.get("RESONANCE_HOME") or Path.home() / ".cache" / "resonance").expanduser()
