"""Language modelling: perplexity and bits per byte of any text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from data.example import Example
from eval import EvalError
from eval.detokenizers import detokenizer
from eval.documents import read_documents
from eval.evaluated_model import EvaluatedModel
from eval.rolling import TEXT_METRICS, Rolling, SegmentLoss, TextSegment, text_items, text_observations
from eval.tasks.base import Item, MetricSpec, Record

PROSE = Path(__file__).parents[1] / "corpora" / "prose"  # the text that is scored unless a file is given

_GPT2_VOCABULARY = 50_257


@dataclass(frozen=True, slots=True)
class TextTask:
    """What tasks that score whole texts share: which text, and how.

    Args:
        path: a file or several: JSONL (a document per line, its text in `field`) or plain text; a folder stands for its
            .md and .txt files. None: the built-in prose.
        separator: the line that separates the documents of a plain text file; None: a file is one document.
        field: the field of a JSONL line that holds the text.
        detokenizer: `wikitext` or `treebank`, undone before scoring; None: the text as it is.
        count_line_ends: count line ends as words of the word perplexity, as WikiText's vocabulary does.
        window, stride, bos: see `Rolling`.
    """

    path: str | Sequence[str] | None = None
    separator: str | None = None
    field: str = "text"
    detokenizer: str | None = None
    count_line_ends: bool = False
    window: int | None = None
    stride: int | None = None
    bos: bool = True
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = False

    def items(self, examples: Sequence[Example]) -> Sequence[Item[TextSegment]]:
        """One item per segment of the documents. Raises EvalError when the files cannot be read."""
        paths = [PROSE] if self.path is None else [self.path] if isinstance(self.path, str) else [*self.path]
        if not paths:
            raise EvalError("path=[] names no text; give a file, or null for the built-in prose.")
        documents = read_documents(
            paths,
            separator=self.separator,
            field=self.field,
            detokenize=detokenizer(self.detokenizer),
            count_line_ends=self.count_line_ends,
        )
        return text_items(documents)

    def losses(self, model: EvaluatedModel, items: Sequence[Item[TextSegment]]) -> Iterator[SegmentLoss]:
        """Yield each item's loss, in order. Raises EvalError when the windows do not fit the model."""
        return Rolling(self.window, self.stride, self.bos).losses(model, [item.content for item in items])

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """Whether the model is worse than guessing."""
        nats, tokens = (
            sum(pair) for pair in zip(*(r.observations.get("perplexity", (0, 0)) for r in records), strict=True)
        )
        if not tokens or nats / tokens <= math.log(_GPT2_VOCABULARY):
            return ()
        return (
            f"A perplexity above {_GPT2_VOCABULARY:,}, the size of GPT-2's vocabulary, is worse than guessing: the "
            "model was trained on no text of this kind.",
        )


@dataclass(frozen=True, slots=True)
class Text(TextTask):
    """Perplexity per token and per word, and bits per byte, of text files by document.

    Perplexity per word divides the same nats by the number of white-space-separated words of the original text, and
    bits per byte by the bytes of the scored text, so that models with different vocabularies are comparable.
    """

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Perplexity by token and word, bits per byte."""
        return TEXT_METRICS

    def run(self, model: EvaluatedModel, items: Sequence[Item[TextSegment]]) -> Iterator[Record]:
        """Score the documents. Raises EvalError when the windows do not fit the model."""
        for item, loss in zip(items, self.losses(model, items), strict=True):
            yield Record(
                item=item.id,
                observations=text_observations(loss, item.content.segment),
                cluster=item.cluster,
                question=item.text,
                details={"document": item.content.document.name},
            )
