"""`resonance weights NAME`: download a released GPT-2, with a progress bar."""

import logging

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from resonance import weights
from resonance.hydra_config import compose
from resonance.weights.download import download
from resonance.weights.state_dict import WeightsError
from resonance.weights.transfer import Policy


def main(overrides: list[str]) -> None:
    """Download the model that `name` says and read it once; see `configs/weights.yaml`."""
    config = compose("weights", overrides)
    if config.name is None:
        raise WeightsError(f"Say which model: resonance weights NAME, one of {', '.join(weights.NAMES)}.")
    logging.getLogger("stamina").setLevel(logging.ERROR)  # retries are told below, where they do not tear the bar
    console = Console(stderr=True)
    policy = Policy(config.attempts, config.stall_timeout, config.wait_initial, config.wait_max)
    bars = Bars(console)
    try:
        done = download(str(config.name), str(config.source), policy, bars, config.base_url)
    finally:
        bars.end()
    console.print(f"{done.parameters:,} parameters, all checksums right.", highlight=False)
    print(done.folder)


class Bars(Progress):
    """A bar a file: how much of it is here, how fast it comes, how long it will take."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def progress(self, file: str, done: int, total: int | None) -> None:
        """Move a file's bar; its first call shows it."""
        if file not in self._bars:
            self.start()
            self._bars[file] = self.add_task(file, total=total, completed=done)
        self.update(self._bars[file], completed=done, total=total)

    def end(self) -> None:
        """Leave the bars as they stand; say nothing where there never was one."""
        if self._bars:
            self.stop()

    def retrying(self, file: str, reason: str) -> None:
        """Say above the bars why a file is asked for again."""
        self.console.print(f"{file}: {reason}; trying again.", highlight=False, markup=False, soft_wrap=True)
