"""Prints a command's config and how it is composed, for Hydra's flags `--cfg` and `--info`."""

import logging
import sys
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonance.cli.hydra_flags import HydraFlags
from resonance.hydra_config import ConfigError, checked_overrides, hydra_settings, is_hydra_override, loader_of, nearest


def show_config(flags: HydraFlags, name: str, overrides: list[str], configs: Path) -> None:
    """Print what `--cfg` or `--info` asks for about `<name>.yaml`. Raises ConfigError for a mistaken override."""
    own = [override for override in overrides if is_hydra_override(override)]
    if own:
        hydra_settings(name, overrides, configs)
    lines = [*checked_overrides(name, [override for override in overrides if override not in own], configs), *own]
    with loader_of(configs):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        if flags.info is not None:
            root = logging.getLogger()
            handlers, level = root.handlers[:], root.level
            hydra.show_info(flags.info, name, lines)
            root.handlers[:] = handlers  # Hydra prints by logging everything to standard output
            root.setLevel(level)
        if flags.cfg is None:
            return
        if flags.package not in (None, "_global_"):
            config = hydra.compose_config(name, lines, run_mode=RunMode.RUN)
            if OmegaConf.select(config, flags.package) is None:
                nodes = [str(node) for node in config if node != "hydra"]
                raise ConfigError(f"There is no node {flags.package!r}; {nearest(flags.package, nodes)}")
        try:
            hydra.show_cfg(name, lines, flags.cfg, flags.package, flags.resolve)
        except OmegaConfBaseException as error:
            raise ConfigError(f"The config cannot be resolved: {str(error).splitlines()[0]}") from error
    sys.stdout.flush()
