"""How well `resonance.retrieval` decides when to search, and makes queries, on labelled messages in several languages.

`corpora/messages` has one file a language; its README.md says what is labelled. A third of the messages is held back
from whoever changes the rules. Run it with

    python -m eval.search_messages tuning     the scores on the rest, and each mistake
    python -m eval.search_messages held       the scores on the third, without the mistakes
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resonance.chat_template import Message
from resonance.retrieval.query_rewriting import standalone_query
from resonance.retrieval.search_decision import decide

MESSAGES = Path(__file__).parent / "corpora" / "messages"
Part = Literal["tuning", "held"]
# Scripts without spaces between words: a word counts where its characters stand in the query.
UNSPACED = ("ja", "zh", "th")


@dataclass(frozen=True, slots=True)
class LabelledMessage:
    """A conversation whose newest message is the user's; `words` must be in a query for it."""

    language: str
    turns: tuple[str, ...]
    search: bool
    explicit: bool
    words: tuple[str, ...]

    def messages(self) -> list[Message]:
        """The conversation."""
        return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(self.turns)]

    @property
    def part(self) -> Part:
        """Whether the message is held back: by a hash of its text, for a third of all."""
        digest = hashlib.sha256(" / ".join(self.turns).encode()).digest()
        return "held" if digest[0] % 3 == 0 else "tuning"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rules make of a message; `found` of its words are in the query, which has `length` words in all."""

    labelled: LabelledMessage
    searched: bool
    reason: str
    query: str
    found: int
    length: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one language.

    `precision` is the share of searches that are due, `recall` the share of due searches that are made, `obeyed` the
    share of explicit requests that are searched. `query_recall` is the share of needed words that are in the queries,
    `query_precision` the share of the queries' words that are needed, both over the messages to be searched for,
    whether they were or not. A score without cases is None.
    """

    language: str
    n: int
    precision: float | None
    recall: float | None
    obeyed: float | None
    query_recall: float | None
    query_precision: float | None


def labelled_messages(part: Part | None = None) -> list[LabelledMessage]:
    """All labelled messages, or those of one part, by language."""
    found = [
        LabelledMessage(path.stem, tuple(row["turns"]), row["search"], row["explicit"], tuple(row["words"]))
        for path in sorted(MESSAGES.glob("*.jsonl"))
        for row in map(json.loads, path.read_text("utf-8").splitlines())
    ]
    return [labelled for labelled in found if part is None or labelled.part == part]


def outcome(labelled: LabelledMessage) -> Outcome:
    """Decide and make the query for one message."""
    messages = labelled.messages()
    decision = decide(messages)
    query = standalone_query(messages)
    words = query.casefold().split()
    if labelled.language in UNSPACED:
        found = sum(word.casefold() in query.casefold() for word in labelled.words)
    else:
        found = sum(word.casefold() in words for word in labelled.words)
    return Outcome(labelled, decision.search, decision.reason, query, found, len(words))


def scores(language: str, outcomes: Sequence[Outcome]) -> Scores:
    """The scores of some outcomes under a name."""
    due = [one for one in outcomes if one.labelled.search]
    explicit = [one for one in outcomes if one.labelled.explicit]
    made = [one for one in outcomes if one.searched]
    right = sum(one.labelled.search for one in made)
    found = sum(one.found for one in due)
    spaced = [one for one in due if one.labelled.language not in UNSPACED]
    return Scores(
        language,
        len(outcomes),
        _share(right, len(made)),
        _share(right, len(due)),
        _share(sum(one.searched for one in explicit), len(explicit)),
        _share(found, sum(len(one.labelled.words) for one in due)),
        _share(sum(one.found for one in spaced), sum(one.length for one in spaced)),
    )


def by_language(outcomes: Sequence[Outcome]) -> list[Scores]:
    """The scores of each language, then of all."""
    languages = dict.fromkeys(one.labelled.language for one in outcomes)
    return [
        *(scores(each, [one for one in outcomes if one.labelled.language == each]) for each in languages),
        scores("all", outcomes),
    ]


def table(rows: Iterable[Scores]) -> str:
    """Scores as a Markdown table, in per cent."""
    lines = ["| | n | search precision | recall | explicit obeyed | query words found | of its words needed |"]
    lines.append("|---|" + "--:|" * 6)
    for row in rows:
        shares = (row.precision, row.recall, row.obeyed, row.query_recall, row.query_precision)
        cells = ["-" if share is None else f"{share:.0%}" for share in shares]
        lines.append(f"| {row.language} | {row.n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def main(arguments: Sequence[str]) -> int:
    """Print the scores; of the tuning part each mistake as well. Exit code 2 for another argument."""
    if list(arguments) not in (["tuning"], ["held"]):
        print(f"Say tuning or held, not {' '.join(arguments)!r}.", file=sys.stderr)
        return 2
    part: Part = "held" if arguments[0] == "held" else "tuning"
    outcomes = [outcome(labelled) for labelled in labelled_messages(part)]
    for one in outcomes if part == "tuning" else ():
        text = f"{one.labelled.language}: {' / '.join(one.labelled.turns)}"
        if one.searched != one.labelled.search:
            print(f"{'not searched' if one.labelled.search else 'searched'}: {text} ({one.reason})")
        if one.labelled.search and one.found < len(one.labelled.words):
            print(f"query {one.query!r} lacks some of {' '.join(one.labelled.words)}: {text}")
    print(table(by_language(outcomes)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
