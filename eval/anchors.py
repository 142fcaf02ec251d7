"""Figures that others have published, to be read beside ours; each has its own protocol and is never mixed with ours.

A published figure is comparable with a score of ours only as far as the two protocols agree, so the protocol is part of
the figure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

GPT2_MODELS = ("gpt2 (124M)", "gpt2-medium (355M)", "gpt2-large (774M)", "gpt2-xl (1558M)")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published figure.

    `metric` names what was measured. A `value` with `share` is in [0, 1]; `high` is the upper end where a range was
    published. `data` is a part of the name of the only training data whose scores it stands beside; None: any.
    """

    model: str
    metric: str
    value: float
    protocol: str
    source: str
    share: bool = False
    high: float | None = None
    data: str | None = None


def anchors_for(task: str, metric: str, data: str | None = None) -> tuple[Anchor, ...]:
    """The published figures to show beside one metric of a task; none for most.

    `task` is the name of a task of ours or of the harness, with or without a prefix (`harness/piqa`), `metric` may
    carry the harness's filter (`acc,none`). `data` names the data that the model was trained on.
    """
    key = (re.split(r"[/:.]", task)[-1], metric.partition(",")[0])
    return tuple(
        anchor for anchor in _ANCHORS.get(key, ()) if anchor.data is None or (data is not None and anchor.data in data)
    )


_GPT2_PAPER = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 3"

_LAMBADA = tuple(
    Anchor(
        model,
        "accuracy",
        value,
        "zero-shot, OpenAI's de-tokenised test file, the last word after a stop-word filter (section 3.3); without the "
        "filter the paper names 52.66% for the largest model",
        _GPT2_PAPER,
        share=True,
    )
    for model, value in zip(GPT2_MODELS, (0.4599, 0.5548, 0.6012, 0.6324), strict=True)
)

_WIKITEXT2 = tuple(
    Anchor(
        model,
        "perplexity",
        value,
        "zero-shot, test split after invertible de-tokenisers, nats per token of the data set's own (section 3.1); "
        "the script is not published, and Hugging Face's guide comes near on raw text with windows of 1,024 tokens "
        "without overlap, per GPT-2 token (16.45 instead of 19.44 for gpt2-large with a stride of 512)",
        _GPT2_PAPER,
    )
    for model, value in zip(GPT2_MODELS, (29.41, 22.76, 19.93, 18.34), strict=True)
)

_HELLASWAG = (
    *(
        Anchor(
            model,
            "accuracy",
            value,
            "zero-shot, the ending with the lowest mean loss per token (nanochat's CORE)",
            "karpathy/nanochat, its table of GPT-2's CORE scores",
            share=True,
        )
        for model, value in zip(GPT2_MODELS, (0.309, 0.390, 0.442, 0.502), strict=True)
    ),
    Anchor(
        GPT2_MODELS[0],
        "acc_norm",
        0.311,
        "zero-shot, log-likelihood divided by the ending's bytes",
        "EleutherAI/lm-evaluation-harness",
        share=True,
    ),
    Anchor(
        "SmolLM2-135M-Instruct",
        "acc_norm",
        0.430,
        "zero-shot, lm-evaluation-harness",
        "model card of lldois/SmolLM2-135M-Reasoning-SLERP-Champion, its baseline (42.99)",
        share=True,
    ),
)

_PIQA = (
    Anchor(
        "SmolLM2-135M-Instruct",
        "acc_norm",
        0.669,
        "zero-shot, lm-evaluation-harness",
        "model card of lldois/SmolLM2-135M-Reasoning-SLERP-Champion, its baseline (66.92)",
        share=True,
    ),
)

_BOOK = "Raschka 2024, Build a Large Language Model (From Scratch), chapter 7"
_BOOK_FILE = "instruction-data"  # data=book, from its URL or a copy

_BOOK_JUDGE = (
    Anchor(
        "gpt2-medium (355M), fine-tuned",
        "mean grade",
        49.45,
        "0-100 by Llama 3 8B over the book's 110 test items, the range of the book's own runs, without intervals",
        _BOOK,
        high=51.75,
        data=_BOOK_FILE,
    ),
)

_BOOK_LOSS = (
    Anchor(
        "gpt2-medium (355M), fine-tuned",
        "validation loss",
        0.66,
        "nats per token of whole conversations, questions included, on the book's validation split; ours are per token "
        "of the answers on the test split",
        _BOOK,
        data=_BOOK_FILE,
    ),
)

_ANCHORS: Mapping[tuple[str, str], tuple[Anchor, ...]] = {
    ("lambada", "accuracy_without_stop_words"): _LAMBADA,
    ("lambada_openai", "acc"): _LAMBADA,
    ("wikitext2", "perplexity"): _WIKITEXT2,
    ("wikitext2", "word_perplexity"): _WIKITEXT2,
    ("wikitext", "word_perplexity"): _WIKITEXT2,
    ("hellaswag", "acc_norm"): _HELLASWAG,
    ("piqa", "acc_norm"): _PIQA,
    ("judge", "grade"): _BOOK_JUDGE,
    ("perplexity", "perplexity"): _BOOK_LOSS,
}
