"""The entry point of `resonance data`: prints statistics of a data set, and examples as training sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data import DataError
from data.example_view import ExampleView, Span, view_example, visible
from data.inspect_page import html_page
from data.sources import Source
from data.statistics import DataStatistics, measure
from data.statistics_table import notes, summary_rows
from resonance.atomic_files import write_text_atomically
from resonance.chat_template import ChatTemplate
from resonance.hydra_config import ConfigError, compose, make

KINDS = ("random", "longest", "shortest", "strangest", "cut")
_PIPED_WIDTH = 160  # columns, where the output is no terminal
_BAR = 40  # columns of the longest bar of the histogram
_BRACKETS = {"context": ("", ""), "supervised": ("«", "»"), "dropped": ("⟦", "⟧")}
_STYLES = {"context": "", "supervised": "green", "dropped": "strike dim red"}


def main(overrides: list[str]) -> None:
    """Measure and show data; `configs/data.yaml` has the keys. Raises ConfigError and DataError."""
    config = compose("data", overrides)
    _check(config)
    console = Console(stderr=config.json is True, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=config.json is True, highlight=False, width=_PIPED_WIDTH)
    template = ChatTemplate.named(config.template.name)
    source: Source = make(config.data)
    row_length = int(config.batch.row_length)
    context_length = min(int(config.batch.max_length or row_length), row_length)
    with console.status(f"Reading and tokenising {source.name} …") if console.is_terminal else nullcontext():
        measured = measure(
            source.name,
            source.splits(),
            template,
            context_length=context_length,
            row_length=row_length,
            seed=int(config.seed),
        )
        shown = _select(measured, template, config)
    if config.json is not None:
        text = json.dumps(as_json(measured), indent=2, ensure_ascii=False)
        if config.json is True:
            print(text)
            if config.html is None:
                return
        else:
            _write(Path(str(config.json)), text + "\n")
    if config.html is not None:
        _write(Path(str(config.html)), html_page(measured, str(config.split), shown))
    if config.json is not True:
        for part in _statistics(measured):
            console.print(part, soft_wrap=isinstance(part, Text))
        _print_examples(console, shown, int(config.tokens))
    for path in (config.html, config.json):
        if path is not None and path is not True:
            console.print(f"wrote {path}", markup=False, soft_wrap=True)


def as_json(measured: DataStatistics) -> dict[str, object]:
    """The statistics as plain values, without examples."""
    return {
        "data": measured.name,
        "template": measured.template,
        "context_length": measured.context_length,
        "row_length": measured.row_length,
        "splits": {name: asdict(split.statistics) for name, split in measured.splits.items()},
        "unusable": measured.unusable,
        "duplicates": list(measured.duplicates),
    }


def _check(config: DictConfig) -> None:
    splits = ("train", "validation", "test")
    if config.split not in splits:
        raise ConfigError(f"split must be one of {', '.join(splits)}, not {config.split!r}.")
    for key, value, least in (
        ("batch.row_length", config.batch.row_length, 2),
        ("batch.max_length", config.batch.max_length, 2),
        ("show", config.show, 0),
        ("seed", config.seed, 0),
        ("tokens", config.tokens, 1),
    ):
        if value is None and key == "batch.max_length":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**32:
            raise ConfigError(f"{key} must be a whole number from {least} on, not {value!r}.")
    if config.json is False or config.html in (True, False):
        raise ConfigError("json and html are names of files (json=true prints); leave them out for none.")


def _select(measured: DataStatistics, template: ChatTemplate, config: DictConfig) -> list[tuple[str, ExampleView]]:
    """The examples to show, as title and view; an example is shown once."""
    split = measured.splits[config.split]
    kinds: dict[int, list[str]] = {}
    for kind in KINDS if config.show else ():
        for i in split.select(kind, int(config.show), int(config.seed)):
            kinds.setdefault(i, []).append(kind)
    rarity = dict(zip(split.indices.tolist(), split.rarity.tolist(), strict=True))
    shown: list[tuple[str, ExampleView]] = []
    for i, names in kinds.items():
        example = split.examples[i]
        view = view_example(example, template, measured.context_length)
        place = f"example {i + 1:,}" if example.row is None else f"row {example.row:,}"
        facts = [
            f"{' and '.join(names)} of {config.split}: {place}",
            *([example.family] if example.family else []),
            f"{view.tokens:,} tokens, {view.supervised:,} supervised",
            *([f"{view.dropped:,} dropped"] if view.dropped else []),
            f"{rarity[i]:.1f} bits per token",
            *([] if view.has_end else ["NO END TOKEN"]),
        ]
        shown.append((", ".join(facts), view))
    return shown


def _write(path: Path, text: str) -> None:
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, text)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); name another file.") from error


def _statistics(measured: DataStatistics) -> Iterator[Table | Text]:
    lead = f"{measured.name}, template {measured.template}, examples of at most {measured.context_length:,} tokens"
    yield Text(lead, style="bold")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    splits = {name: split.statistics for name, split in measured.splits.items()}
    for name in splits:
        table.add_column(name, justify="right")
    for label, values in summary_rows(splits, measured.row_length):
        table.add_row(label, *values)
    yield table
    train = splits["train"]
    if train.histogram:
        yield Text(f"length of train examples in tokens{'' if not train.lost_tokens else ', uncut'}", style="bold")
        most = max(count for _, _, count in train.histogram)
        width = len(f"{train.histogram[-1][1]:,}")
        for low, high, count in train.histogram:
            bar = "█" * -(-count * _BAR // most)
            yield Text(f"{low:>{width},} – {high:>{width},}  {bar}{' ' if bar else ''}{count:,}")
        yield Text()
    for line in notes(measured):
        yield Text(line)


def _print_examples(console: Console, shown: Sequence[tuple[str, ExampleView]], tokens: int) -> None:
    coloured = console.color_system is not None and not console.no_color
    if shown:
        console.print()
        console.print(_legend(coloured), soft_wrap=True)
    for title, view in shown:
        console.print()
        console.print(Text(title, style="bold"), soft_wrap=True)
        text = Text()
        for use, spans in groupby(_clipped(view.spans, tokens), key=lambda span: span.use):
            before, after = ("", "") if coloured else _BRACKETS[use]
            text.append(before)
            for span in spans:
                text.append(visible(span.text), style=f"{_STYLES[use]} bold reverse" if span.special else _STYLES[use])
            text.append(after)
        console.print(text, soft_wrap=True)
        if view.rejected is not None:
            console.print(Text("rejected answer (objective=dpo, kto)", style="italic"))
            rejected = "".join(span.text for span in _clipped([view.rejected], tokens))
            console.print(Text(visible(rejected)), soft_wrap=True)


def _legend(coloured: bool) -> Text:
    """What the marks of the examples mean."""
    text = Text()
    for use, what in (("supervised", "the loss covers these tokens"), ("dropped", "training does not see these")):
        before, after = ("", "") if coloured else _BRACKETS[use]
        text.append(before).append(what, style=_STYLES[use]).append(after).append("  ")
    return text.append("a special token", style="bold reverse") if coloured else text


def _clipped(spans: Sequence[Span], tokens: int) -> list[Span]:
    """The spans without those in the middle that go beyond `tokens`; long spans lose their own middle."""
    total = sum(span.tokens for span in spans)
    if total <= tokens:
        return list(spans)
    left_out = Span(f" … {total - tokens:,} tokens … ", "context", False, 0)
    shortened: list[Span] = []
    position, low, high = 0, -(-tokens // 2), total - tokens // 2
    marked = False
    for span in spans:
        start, end = position, position + span.tokens
        position = end
        before = _part(span, 0, min(end, low) - start)
        after = _part(span, max(start, high) - start, span.tokens)
        shortened += [before] if before else []
        if end > low and not marked:
            shortened.append(left_out)
            marked = True
        shortened += [after] if after else []
    return shortened


def _part(span: Span, start: int, end: int) -> Span | None:
    """About the tokens from `start` to `end` of a span: characters in proportion; None for none."""
    if end <= start:
        return None
    size = len(span.text)
    text = span.text[size * start // span.tokens : size * end // span.tokens]
    return Span(text, span.use, span.special, end - start)
