"""Forgetting: how much worse a fine-tuned checkpoint predicts general text than the weights it was trained from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.rolling import TEXT_METRICS, SegmentLoss, TextSegment, text_observations
from eval.tasks.base import Item, MetricSpec, Record
from eval.tasks.text import TextTask
from resonance import weights
from resonance.checkpoint import Checkpoint
from resonance.provenance import sha256_of_weights

LOST = "bits_per_byte_lost"


@dataclass(frozen=True, slots=True)
class Forgetting(TextTask):
    """Perplexity and bits per byte of a general text, of the checkpoint and of its base weights, and what was lost.

    `bits_per_byte_lost` is the checkpoint's bits per byte minus the base's on the same text: above zero the checkpoint
    has forgotten. Its interval is that of the paired difference. Both read the text without a chat template.
    """

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """The loss of bits per byte, then the scores of the checkpoint and of its base."""
        return {
            LOST: MetricSpec("ratio", higher_is_better=False),
            **TEXT_METRICS,
            **{f"base_{name}": spec for name, spec in TEXT_METRICS.items()},
        }

    def run(self, model: EvaluatedModel, items: Sequence[Item[TextSegment]]) -> Iterator[Record]:
        """Score the text with both models.

        Raises EvalError or WeightsError when the base weights are not known, not on this machine, or not the same.
        """
        base = base_of(model)
        task = replace(self, window=self.window or min(model.context_length, base.context_length))
        for item, own, before in zip(items, task.losses(model, items), task.losses(base, items), strict=True):
            yield Record(
                item=item.id,
                observations=_observations(item.content, own, before),
                cluster=item.cluster,
                question=item.text,
                details={"document": item.content.document.name},
            )


def base_of(model: EvaluatedModel) -> EvaluatedModel:
    """The weights that a model's training started from, in an engine of the same precision.

    Raises EvalError when there are none on record or they have changed, WeightsError when they are not on this machine.
    """
    checkpoint = model.checkpoint
    if checkpoint is None:
        raise EvalError(f"{model.label} is not saved yet; evaluate its checkpoint for what it has forgotten.")
    metadata = checkpoint.metadata
    if metadata.base is None:
        raise EvalError(
            f"{checkpoint.name} was not fine-tuned from other weights, so there is nothing that it could forget."
        )
    path = weights.resolve(metadata.base)
    if metadata.base_sha256 is not None and sha256_of_weights(path) != metadata.base_sha256:
        raise EvalError(f"{path} no longer has the weights that {checkpoint.name} was trained from.")
    return EvaluatedModel.load(
        "base", Checkpoint.open(path), batch_size=model.batch_size, dtype=model.dtype, quantize=model.quantize
    )


def _observations(content: TextSegment, own: SegmentLoss, base: SegmentLoss) -> dict[str, tuple[float, float]]:
    ours, theirs = (text_observations(loss, content.segment) for loss in (own, base))
    if not ours or not theirs:
        return {}
    (bits, size), (base_bits, _) = ours["bits_per_byte"], theirs["bits_per_byte"]
    return {LOST: (bits - base_bits, size), **ours, **{f"base_{name}": pair for name, pair in theirs.items()}}
