"""`resonance train --multirun`: several runs by Hydra's sweeper and launcher, each in a folder of its own, and a table.

A job's result is in `<hydra.sweep.dir>/<number>/job.json`. The same sweep started again trains only what is not done.
A job that fails is recorded as failed and never ends the sweep: Hydra and its sweepers see only scores.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich import get_console

from resonance.checkpoint import TRAIN_FILE
from resonance.errors import ResonanceError
from resonance.hydra_config import (
    ConfigError,
    checked_overrides,
    config_folders,
    hydra_settings,
    is_hydra_override,
    loader_of,
    single_values,
    use_config_folders,
)
from resonance.paths import CONFIGS
from train.callbacks.graceful_stop import GracefulStop, StoppedBySignal
from train.run_config import RunSpec, checkpoints_root, resolve_run
from train.sweep_results import JobResult, print_results, read_results

for name in ("hydra_plugins.hydra_optuna_sweeper", "optuna.study"):  # the table says what they log of each job
    logging.getLogger(name).setLevel(logging.CRITICAL)
ERROR_FILE = "error.log"  # the traceback of a job that failed
EXTRAS = "Optuna, joblib and submitit come with pip install 'resonance[sweep]', Ray with 'resonance[ray]'"
Train = Callable[[RunSpec], float | None]


class SweepError(ResonanceError):
    """No job of a sweep ended with a score."""

    exit_code = 1


class OtherSettings(BaseException):
    """A job of an earlier sweep of the same name had other settings; ends the sweep, as Hydra lets it through."""


def sweep(overrides: list[str], train: Train) -> None:
    """Run `train` for each combination that the sweeper chooses, and print the results, the best one first.

    Raises ConfigError for a mistake, before the first job; SweepError where all jobs failed; and KeyboardInterrupt
    when a signal stopped a job.
    """
    own = [override for override in overrides if is_hydra_override(override)]
    task = [override for override in overrides if override not in own]
    name = _checked(own, task)
    task = [override for override in task if override.partition("=")[0] != "run"]
    deleted = tuple(override for override in task if override.startswith("~"))  # Hydra's sweepers cannot pass these on
    lines = [*own, *_readable([override for override in task if override not in deleted]), f"run={name}"]
    job = SweepJob(train, name, deleted, config_folders())
    sweeper_error: Exception | None = None
    with loader_of(CONFIGS):
        main = GlobalHydra.instance().hydra
        assert main is not None
        folder = Path(str(main.compose_config("train", lines, run_mode=RunMode.MULTIRUN).hydra.sweep.dir))
        try:
            main.multirun("train", job, lines, with_log_configuration=False)
        except OtherSettings:
            raise ConfigError(f"The sweep {name} was of other settings; choose another run=NAME.") from None
        except KeyboardInterrupt:
            results = print_results(read_results(folder))
            done = ", ".join(result.run for result in results if result.state == "done") or "none"
            raise KeyboardInterrupt(
                f"The sweep {name} was stopped; done: {done}. The same command with run={name} goes on."
            ) from None
        except Exception as error:  # Optuna's, too, where no job has a score
            sweeper_error = error
    results = print_results(read_results(folder))
    failed = [result for result in results if result.state == "failed"]
    if failed and len(failed) == len(results):
        raise SweepError(f"All {len(results)} runs of the sweep {name} failed; {failed[0].run}: {failed[0].error}")
    if isinstance(sweeper_error, ResonanceError):
        raise sweeper_error
    if sweeper_error is not None:
        if not results:
            raise ConfigError(f"The sweep cannot begin: {_first_line(sweeper_error)}") from sweeper_error
        if all(result.value is None for result in results):
            raise SweepError(f"No run of the sweep {name} measured {results[0].monitor}, which the sweeper chooses by.")
        raise SweepError(_first_line(sweeper_error)) from sweeper_error


@dataclass(frozen=True, slots=True)
class SweepJob:
    """One job: Hydra's launcher calls it, in this process or in another one."""

    train: Train
    sweep: str
    deleted: tuple[str, ...]
    config_folders: tuple[list[str], list[str]]

    def __call__(self, config: DictConfig) -> float | None:
        """Train the run `<sweep>-<number>` and return its monitored score."""
        use_config_folders(*self.config_folders)
        hydra = HydraConfig.get()
        run, folder = f"{self.sweep}-{hydra.job.num}", Path(hydra.runtime.output_dir)
        chosen = [*hydra.overrides.task, *self.deleted]
        overrides = [*(override for override in chosen if not override.startswith("run=")), f"run={run}"]
        earlier = JobResult.read(folder)
        if earlier is not None and earlier.overrides != overrides:
            raise OtherSettings
        if earlier is not None and (Path(earlier.folder) / TRAIN_FILE).is_file():
            if earlier.state == "done":
                return earlier.value
            overrides_now = [f"resume={run}", f"checkpoints_dir={Path(earlier.folder).parent}"]
        else:
            overrides_now = overrides
        run_folder = checkpoints_root(config) / run
        result = JobResult(run, str(run_folder), overrides, str(config.save.monitor), str(config.save.mode))
        result.write(folder)
        GracefulStop.requested = False
        try:
            spec = resolve_run(overrides_now)
            _check_processes(spec)
            with _own_command(overrides):
                result.value = self.train(spec)
            result.state = "done"
        except StoppedBySignal:
            result.state = "stopped"
            raise KeyboardInterrupt from None
        except Exception as error:
            result.state, result.error = "failed", _first_line(error)
            (folder / ERROR_FILE).write_text(traceback.format_exc(), encoding="utf-8")
            get_console().print(f"{run} failed: {result.error}", highlight=False, markup=False, soft_wrap=True)
        except BaseException:
            result.state = "stopped"
            raise
        finally:
            result.write(folder)
        if GracefulStop.requested:  # in the last step, so that the run is done
            raise KeyboardInterrupt
        return result.value


def _checked(own: list[str], task: list[str]) -> str:
    """The sweep's name, after a check of Hydra's settings, and of each value by itself."""
    for key in ("resume", "overwrite"):
        if any(override.partition("=")[0] == key for override in task):
            raise ConfigError(f"A sweep begins new runs and goes on with its own; leave out {key}=.")
    values = {override: single_values(override) for override in task}
    first = [choices[0] for choices in values.values()]
    try:
        hydra = hydra_settings("train", [*first, *own])
    except ConfigError as error:
        missing = any(word in str(error) for word in ("hydra/sweeper", "hydra/launcher"))
        raise ConfigError(f"{error} {EXTRAS}." if missing else str(error)) from None
    keys = [override.partition("=")[0] for override in task]
    for key, value in (hydra.sweeper.get("params") or {}).items():
        if key not in keys:
            values[f"{key}={value}"] = single_values(f"{key}={value}")
    first = [choices[0] for choices in values.values()]
    spec = resolve_run(first)
    if spec.plan:
        raise ConfigError("plan=true plans one run; leave out --multirun.")
    for place, choices in enumerate(values.values()):
        for choice in choices[1:]:
            _check_processes(resolve_run([*first[:place], choice, *first[place + 1 :], f"run={spec.folder.name}"]))
    _check_processes(spec)
    _check_sweeper(hydra, values, str(spec.config.save.mode))
    return spec.folder.name


def _check_sweeper(hydra: DictConfig, overrides: Iterable[str], mode: str) -> None:
    """Raise ConfigError for settings of the sweeper or launcher that cannot choose or run jobs."""
    for key in ("sweeper.n_trials", "sweeper.n_jobs", "sweeper.max_batch_size", "launcher.n_jobs"):
        count = OmegaConf.select(hydra, key)
        if isinstance(count, int) and count < 1 and (key, count) != ("launcher.n_jobs", -1):  # -1: all processors
            raise ConfigError(f"hydra.{key} must be at least 1, not {count}.")
    for override in overrides:
        if "interval(" in override and str(hydra.sweeper._target_).endswith("BasicSweeper"):
            raise ConfigError(f"{override} has values without end; list some, or add hydra/sweeper=optuna.")
    if hydra.sweeper.get("storage") is not None:
        raise ConfigError("A sweep keeps its results in hydra.sweep.dir; leave out hydra.sweeper.storage.")
    if hydra.sweeper.get("max_failure_rate"):
        raise ConfigError("Failed runs do not end a sweep; leave out hydra.sweeper.max_failure_rate.")
    direction = hydra.sweeper.get("direction")
    expected = "maximize" if mode == "max" else "minimize"
    if direction is not None and getattr(direction, "name", str(direction)) != expected:
        raise ConfigError(f"save.mode={mode} needs hydra.sweeper.direction={expected}.")


def _check_processes(spec: RunSpec) -> None:
    """Raise ConfigError for a job of several processes."""
    devices, nodes = spec.config.trainer.devices, spec.config.trainer.get("num_nodes", 1)
    several = len(devices) > 1 if isinstance(devices, ListConfig) else isinstance(devices, int) and devices > 1
    if several or nodes != 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("A job of a sweep trains in one process; train runs of several processes one by one.")
    if devices == "auto":
        spec.config.trainer.devices = 1


def _readable(task: list[str]) -> list[str]:
    """The overrides in a form that Hydra reads; those with several values keep them."""
    first = [single_values(override)[0] for override in task]
    lines = checked_overrides("train", first)  # together: a key may be one of a group that another override chooses
    readable = list[str]()
    for override, one, line in zip(task, first, lines, strict=True):
        changes = not line.startswith("+")  # so does `+key` of a key that exists
        readable.append(line if override == one else override.lstrip("+") if changes else override)
    return readable


@contextmanager
def _own_command(overrides: list[str]) -> Generator[None]:
    """Within it a job looks to Lightning like a command of its own and not like one of Hydra's jobs."""
    hydra, arguments = HydraConfig.instance(), sys.argv
    config, environment = hydra.cfg, dict(os.environ)
    hydra.cfg, sys.argv = None, [arguments[0], "train", *overrides]
    try:
        yield
    finally:
        hydra.cfg, sys.argv = config, arguments
        os.environ.clear()
        os.environ.update(environment)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
