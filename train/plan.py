"""`plan=true`: what a run needs before its first step, and what to change where it does not fit; `batch.size=auto`.

Nothing is written. One step is made to time it, if it fits.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from resonance.hydra_config import ConfigError
from resonance.system_memory import resident_bytes
from train.memory_estimate import Estimate
from train.run_config import RunSpec
from train.run_memory import RunMemory, back_propagate, make_step, measure, take_rows, update

MARGIN = 0.1  # of the memory, which is left free
_GIGA = 1e9


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that lowers the peak: overrides of the command line, and the peak in bytes."""

    overrides: tuple[str, ...]
    peak: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a micro-batch and of the optimiser's part of a step."""

    micro_batch: float
    update: float

    def of_run(self, steps: int, accumulate: int) -> float:
        """Seconds of so many steps, without validation, samples and saves."""
        return steps * (accumulate * self.micro_batch + self.update)


def plan(spec: RunSpec, console: Console, compose: Callable[[Sequence[str]], DictConfig]) -> None:
    """Print the plan of a run. `compose` makes the config of a command line with further overrides."""
    run = measure(spec.config, memory=spec.memory)
    peak, limit = run.peak(), run.available * (1 - MARGIN)
    console.print(_needs(spec, run, peak), highlight=False)
    device = run.trainer.strategy.root_device.type
    fits = peak <= limit
    has = f"{_gb(run.available)} that {'plan_memory= allows' if spec.memory else f'this {_place(device)} has'}"
    verdict = "fits" if fits else "does not fit" if peak > run.available else f"leaves less than {MARGIN:.0%} free"
    console.print(f"peak {_gb(peak)} of {has}: it {verdict}", highlight=False)
    steps = int(run.trainer.max_steps)
    if device != "cpu":
        console.print("the time is that of the first steps of a run: no step is made on this device", highlight=False)
    elif peak <= run.available:
        before = resident_bytes(peak=True)
        seconds = time_step(run)
        measured = resident_bytes(peak=True)
        console.print(
            f"a step takes {_seconds(seconds.of_run(1, run.accumulate))} ({run.accumulate} x "
            f"{_seconds(seconds.micro_batch)} and {_seconds(seconds.update)} for the update), {steps:,} steps "
            f"{_seconds(seconds.of_run(steps, run.accumulate))}, without validation and samples",
            highlight=False,
        )
        if measured > before:
            console.print(f"memory of this process after that step: {_gb(measured)}", highlight=False)
    if fits:
        return
    proposals = sorted(_proposals(run, limit, compose), key=lambda proposal: proposal.peak > limit)
    if not any(proposal.peak <= limit for proposal in proposals):
        console.print("nothing below fits; take a smaller model or shorter rows (batch.row_length)", highlight=False)
    table = Table(box=box.SIMPLE, title="What needs less", title_justify="left")
    for name in ("change", "peak", "fits"):
        table.add_column(name, justify="right" if name == "peak" else "left", overflow="fold")
    for proposal in proposals:
        table.add_row(" ".join(proposal.overrides), _gb(proposal.peak), "yes" if proposal.peak <= limit else "no")
    console.print(table)
    for proposal in proposals:
        if proposal.peak <= limit:
            console.print(command(spec.overrides, proposal.overrides), highlight=False, markup=False, soft_wrap=True)


def choose_batch(spec: RunSpec) -> tuple[RunSpec, str]:
    """Choose the micro-batch of `batch.size=auto`: the largest that fits and divides the rows of a step.

    Returns the run with the chosen numbers in its config, and a sentence on them. Raises ConfigError where none fits.
    """
    run = measure(spec.config, memory=spec.memory)
    limit = run.available * (1 - MARGIN)
    rows = run.most_rows(limit)
    if rows is None:
        raise ConfigError(
            f"batch.size=auto found no size that fits: a micro-batch of one row needs about {_gb(run.peak(1))}, and "
            f"it can have {_gb(run.available)}; plan=true shows what needs less."
        )
    whole = run.rows * run.accumulate
    config = spec.config.copy()
    config.batch.size, config.trainer.accumulate_grad_batches = rows, whole // rows
    return replace(spec, config=config, auto_batch=False), (
        f"batch.size=auto: micro-batches of {rows} rows, {whole // rows} a step ({whole} rows as before); "
        f"estimated peak {_gb(run.peak(rows))} of {_gb(run.available)}"
    )


def time_step(run: RunMemory) -> StepTime:
    """Make a step to warm up, and time the next one. Changes the weights."""
    batch = take_rows(run.batch, run.filled_rows())
    make_step(run, batch)
    return StepTime(_seconds_of(lambda: back_propagate(run, batch)), _seconds_of(lambda: update(run)))


def command(overrides: Sequence[str], changes: Sequence[str]) -> str:
    """The command line with changes, which take the place of overrides of the same keys."""
    return shlex.join(["resonance", "train", *with_changes(overrides, changes)])


def with_changes(overrides: Sequence[str], changes: Sequence[str]) -> list[str]:
    """The overrides with changes in the place of those of the same keys, and without those of the plan."""
    replaced = {"plan", "plan_memory", *(change.partition("=")[0] for change in changes)}
    return [*(o for o in overrides if o.lstrip("+~").partition("=")[0] not in replaced), *changes]


def _proposals(run: RunMemory, limit: float, compose: Callable[[Sequence[str]], DictConfig]) -> Iterator[Proposal]:
    """Changes by what they cost: smaller micro-batches, recomputed activations, 8-bit moments, LoRA, and together."""
    checkpointing = bool(run.config.get("activation_checkpointing"))
    yield from _smaller(run, run.estimate, (), limit)
    if not checkpointing:
        changes = ("activation_checkpointing=true",)
        yield Proposal(changes, run.peak(estimate=run.checkpointed))
        yield from _smaller(run, run.checkpointed, changes, limit)
    if str(run.config.optimizer._target_).endswith(".adamw"):
        best = run.with_8bit_moments(run.checkpointed)
        changes = ("optimizer=adamw_8bit", *(() if checkpointing else ("activation_checkpointing=true",)))
        yield from _smaller(run, best, changes, limit)
    if run.config.get("adapter"):
        return
    process = run.estimate.process
    try:
        adapted = measure(compose(("adapter=lora",)), memory=run.available, process=process)
    except ConfigError:  # an optimiser or an option that does not go with an adapter
        return
    yield Proposal(("adapter=lora",), adapted.peak())
    yield from _smaller(adapted, adapted.estimate, ("adapter=lora",), limit)
    if not checkpointing:
        changes = ("adapter=lora", "activation_checkpointing=true")
        yield from _smaller(adapted, adapted.checkpointed, changes, limit)


def _smaller(run: RunMemory, estimate: Estimate, changes: tuple[str, ...], limit: float) -> Iterator[Proposal]:
    """The largest micro-batch that fits, or of one row, with the same rows in a step."""
    rows = run.most_rows(limit, estimate) or 1
    if rows == run.rows and not changes:
        return
    accumulate = run.rows * run.accumulate // rows
    sizes = () if rows == run.rows else (f"batch.size={rows}", f"trainer.accumulate_grad_batches={accumulate}")
    yield Proposal((*changes, *sizes), run.peak(rows, estimate))


def _needs(spec: RunSpec, run: RunMemory, peak: float) -> Table:
    """The table of what needs how much."""
    estimate, model = run.estimate, run.model
    total, rows = model.num_parameters(), run.filled_rows()
    tokens = run.row_tokens * rows
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    table = Table(box=box.SIMPLE, title=f"Plan of {spec.config.run}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    accumulated = "" if run.accumulate == 1 else f", {run.accumulate} micro-batches a step"
    unfilled = "" if rows == run.rows else f"; of batch.size={run.rows} the data fills no more"
    recomputed = "with checkpointing" if run.config.get("activation_checkpointing") else ""
    for name, value, remark in (
        ("parameters", f"{total:,}", f"{trained:,} train ({trained / total:.2%})"),
        ("micro-batch", f"{rows} rows", f"of {run.row_tokens:,} tokens{accumulated}{unfilled}"),
        ("libraries, data, buffers", _gb(estimate.process), ""),
        ("weights", _gb(estimate.weights), ""),
        ("gradients", _gb(estimate.gradients), ""),
        ("optimiser state", _gb(estimate.optimizer), str(run.config.optimizer._target_).rpartition(".")[2]),
        (
            "activations",
            _gb(estimate.activations.of(tokens)),
            recomputed,
        ),
        ("buffers of the loss", _gb(estimate.loss(tokens)), ""),
        ("peak", _gb(peak), "not all of these are there at once"),
    ):
        table.add_row(name, value, remark)
    return table


def _seconds_of(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _place(device: str) -> str:
    return "machine or its control group" if device == "cpu" else "GPU"


def _gb(size: float) -> str:
    return f"{size / _GIGA:,.2f} GB"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
