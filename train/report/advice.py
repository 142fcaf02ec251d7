"""What to do after a run, each with what was measured."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import OmegaConf

from train.callbacks.scores import VALIDATION_LOSS
from train.report.run_record import RunRecord

FALLING = 0.02  # the least share by which the loss of the last third of validations still falls
OVERFITTING = 0.02  # the least share by which the last validation loss is above the lowest
FEWEST_VALIDATIONS = 4  # below it a trend is noise
MANY_SPIKES = 3
LOW_UTILIZATION = 0.2
_DONE = ("finished", "stopped early")


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do: what was measured, and a command if there is one."""

    title: str
    reason: str
    command: str | None = None


def advice(run: RunRecord, ended: str, total_steps: int | None) -> list[Advice]:
    """What to do next, the most important first; `ended` is one of `running`, `finished`, `interrupted`, ..."""
    name = shlex.quote(run.reference)
    if ended == "running":
        return [*_losses(run, name, ended), *_spikes(run, name), *_speed(run, name)]
    goes_on = [] if ended in _DONE else [_go_on(run, name, ended, total_steps)]
    test = Advice(
        "Measure what it learned",
        "The losses here are of the validation split; the scores of tasks on the test split tell more.",
        f"resonance eval checkpoint={name}",
    )
    chat = Advice(
        "Talk to it", "In the terminal, with the weights that are served.", f"resonance chat checkpoint={name}"
    )
    serve = Advice(
        "Serve it", "A chat page, and an API that OpenAI's clients understand.", f"resonance serve checkpoint={name}"
    )
    found = [*goes_on, *_losses(run, name, ended), *_spikes(run, name), *_speed(run, name), test, chat, serve]
    return [*found, *_validations(run, name)] if ended in _DONE else found


def _go_on(run: RunRecord, name: str, ended: str, total_steps: int | None) -> Advice:
    of = "" if total_steps is None else f" of {total_steps:,}"
    failed = [event for event in run.events if event["event"] == "non_finite"]
    if failed:
        rate = OmegaConf.select(run.config, "optimizer.lr")
        return Advice(
            "Lower the learning rate",
            f"The loss or a gradient was not a finite number at step {failed[-1]['step']:,}, in the rows "
            f"{', '.join(map(str, failed[-1].get('rows', [])))} of the training data.",
            f"resonance train resume={name} optimizer.lr={rate / 2:g}" if isinstance(rate, float) else None,
        )
    return Advice("Go on", f"The run was {ended} at step {run.step:,}{of}.", f"resonance train resume={name}")


def _validations(run: RunRecord, name: str) -> list[Advice]:
    """What a next run needs to show a trend."""
    count = len(_validation_losses(run))
    if count >= FEWEST_VALIDATIONS:
        return []
    return [
        Advice(
            "Validate more often",
            f"The validation loss was measured {count} times, and a trend needs {FEWEST_VALIDATIONS}.",
            f"resonance train from_checkpoint={name} trainer.val_every_n_steps={max(1, run.step // 10)}",
        )
    ]


def _validation_losses(run: RunRecord) -> Sequence[tuple[int, float]]:
    return run.curves[VALIDATION_LOSS].points if VALIDATION_LOSS in run.curves else []


def _losses(run: RunRecord, name: str, ended: str) -> list[Advice]:
    points = _validation_losses(run)
    if len(points) < FEWEST_VALIDATIONS:
        return []
    best_step, best = min(points, key=lambda point: point[1])
    last_step, last = points[-1]
    third_step, third = points[-1 - max(1, len(points) // 3)]
    if last > best * (1 + OVERFITTING):
        fitted = run.last("train/loss")
        return [
            Advice(
                "It overfits: train for fewer steps, or on more data",
                f"The validation loss was lowest at step {best_step:,} ({best:.4g}) and is {last / best - 1:.1%} above "
                f"that at step {last_step:,} ({last:.4g})"
                + ("" if fitted is None else f", while the training loss is {fitted:.4g}")
                + ".",
                f"resonance train from_checkpoint={name} callbacks.early_stopping.patience=3",
            )
        ]
    if run.last("val/reward_accuracy") == 1.0:
        return [
            Advice(
                "More steps would only widen the margins",
                "The model prefers the right answer in all validation pairs or votes.",
            )
        ]
    if third > 0 and last < third * (1 - FALLING):
        epochs = "" if OmegaConf.select(run.config, "trainer.max_epochs") is None else " trainer.max_epochs=null"
        more = Advice(
            "Train longer",
            f"The validation loss still falls: {third:.4g} at step {third_step:,}, {last:.4g} at step {last_step:,} "
            f"({1 - last / third:.1%} less).",
            f"resonance train resume={name}{epochs} trainer.max_steps={2 * last_step}",
        )
        return [more] if ended == "finished" else []
    return [
        Advice(
            "More steps alone will not help",
            f"The validation loss hardly changes: {third:.4g} at step {third_step:,}, {last:.4g} at step {last_step:,}."
            " More data, a larger model or another learning rate may.",
            f"resonance train --multirun from_checkpoint={name} optimizer.lr={_rates(run)}" if _rates(run) else None,
        )
    ]


def _rates(run: RunRecord) -> str | None:
    rate = OmegaConf.select(run.config, "optimizer.lr")
    return f"{rate / 3:.2g},{rate * 3:.2g}" if isinstance(rate, float) else None


def _spikes(run: RunRecord, name: str) -> list[Advice]:
    spikes = [event for event in run.events if event["event"] == "spike" and event.get("of") == "grad_norm"]
    if len(spikes) < MANY_SPIKES:
        return []
    worst = max(spikes, key=lambda event: event["value"] / event["usual"])
    rate, clip = (OmegaConf.select(run.config, key) for key in ("optimizer.lr", "trainer.gradient_clip_val"))
    change = f"optimizer.lr={rate / 2:g}" if isinstance(rate, float) else "trainer.gradient_clip_val=1.0"
    if clip is None:
        change = "trainer.gradient_clip_val=1.0"
    return [
        Advice(
            "Calm the gradients",
            f"The gradient norm spiked {len(spikes)} times, most at step {worst['step']:,}: {worst['value']:.3g}, "
            f"where {worst['usual']:.3g} was usual; it is "
            + ("not clipped." if clip is None else f"clipped at {clip:g}, so a lower rate is next."),
            f"resonance train from_checkpoint={name} {change}",
        )
    ]


def _speed(run: RunRecord, name: str) -> Sequence[Advice]:
    if "mfu" not in run.curves:
        return []
    values = sorted(value for _, value in run.curves["mfu"].points)
    usual = values[len(values) // 2]
    if usual >= LOW_UTILIZATION:
        return []
    size, micro_batches = run.config.batch.size, run.config.trainer.accumulate_grad_batches
    fewer = "" if micro_batches % 2 else f" trainer.accumulate_grad_batches={micro_batches // 2}"  # the same steps
    return [
        Advice(
            "Use more of the machine",
            f"Training used {usual:.0%} of the machine's measured peak (the median), with {size} rows a micro-batch. "
            "Larger micro-batches use it better, where they fit into memory.",
            f"resonance train from_checkpoint={name} batch.size={2 * size}{fewer}",
        )
    ]
