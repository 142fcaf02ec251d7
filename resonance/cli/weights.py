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
from resonance.weights.transfer import RetryPolicy


def main(overrides: list[str]) -> None:
    """Download the model `name` and read it once; see `configs/weights.yaml`."""
    config = compose("weights", overrides)
    if config.name is None:
        raise weights.WeightsError(f"Say which model: resonance weights NAME, one of {', '.join(weights.NAMES)}.")
    logging.getLogger("stamina").setLevel(logging.ERROR)  # `retrying` reports them without breaking the bars
    console = Console(stderr=True)
    policy = RetryPolicy(config.attempts, config.stall_timeout, config.wait_initial, config.wait_max)
    bars = ProgressBars(console)
    try:
        done = download(str(config.name), str(config.source), policy, bars, config.base_url)
    finally:
        bars.close()
    console.print(f"{done.parameters:,} parameters, all checksums right.", highlight=False)
    print(done.folder)


class ProgressBars(Progress):
    """One progress bar a file: bytes on disk, speed, time left."""

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
        """Move a file's bar; the first call shows it."""
        if file not in self._bars:
            self.start()
            self._bars[file] = self.add_task(file, total=total, completed=done)
        self.update(self._bars[file], completed=done, total=total)

    def close(self) -> None:
        """Stop drawing the bars; print nothing where there are none."""
        if self._bars:
            self.stop()

    def retrying(self, file: str, reason: str) -> None:
        """Print above the bars why a file is requested again."""
        self.console.print(f"{file}: {reason}; trying again.", highlight=False, markup=False, soft_wrap=True)
