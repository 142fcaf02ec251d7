"""The prompts of the task `constraints`: requests with one to three compatible constraints, from a seeded generator."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, cast

from eval.constraints.constraint import Constraint
from eval.constraints.content import (
    Avoids,
    Contains,
    EndsWith,
    OneOf,
    Ordered,
    RepeatsRequest,
    StartsWith,
    WithoutLetter,
)
from eval.constraints.counts import Amount, Bullets, Characters, Numbered, Paragraphs, Sentences, Words
from eval.constraints.form import Case, Digits, InScript, JsonObject, NoCommas, Quoted, Script, Spelled
from eval.constraints.requests import (
    BEGINNINGS,
    CLAIMS,
    ENDINGS,
    FOREIGN,
    LETTERS,
    LISTS,
    NUMBERS,
    OPEN,
    QUALITIES,
    RECORDS,
    SHORT_WORDS,
    SORTED_WORDS,
    THINGS,
    UNWANTED,
    WANTED,
    YES_NO,
)

Level = Literal["basic", "single", "combined"]
_ATTEMPTS = 50  # in a row that yield a prompt made before, until the supply counts as exhausted


@dataclass(frozen=True, slots=True)
class ConstrainedPrompt:
    """A user's message and the constraints that it states.

    Levels: `basic` is within reach of the demo's model, `single` has one constraint, `combined` two or three.
    """

    text: str
    constraints: tuple[Constraint, ...]
    level: Level


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of constraint for any request; kinds that share an aspect of the answer would contradict each other."""

    make: Callable[[random.Random, str], Constraint]  # from the request
    aspects: frozenset[str]
    requests: tuple[str, ...] = OPEN


def make_prompts(*, basic: int, single: int, combined: int, seed: int) -> list[ConstrainedPrompt]:
    """Distinct prompts, so many of each level, or all that there are.

    The same seed gives the same prompts; a larger number adds to them.
    """
    levels: tuple[tuple[Level, int, Callable[[random.Random, int], ConstrainedPrompt]], ...] = (
        ("basic", basic, _basic),
        ("single", single, _single),
        ("combined", combined, _combined),
    )
    return [prompt for level, count, make in levels for prompt in islice(_distinct(f"{seed}/{level}", make), count)]


def _distinct(seed: str, make: Callable[[random.Random, int], ConstrainedPrompt]) -> Iterator[ConstrainedPrompt]:
    seen: set[str] = set()
    rng, index, repeats = random.Random(seed), 0, 0
    while repeats < _ATTEMPTS:
        prompt = make(rng, index)
        index += 1
        repeats = repeats + 1 if prompt.text in seen else 0
        if prompt.text not in seen:
            seen.add(prompt.text)
            yield prompt


def _basic(rng: random.Random, index: int) -> ConstrainedPrompt:
    """A small task whose wording is its constraint, or the two that follow from it."""
    return _BASIC[index % len(_BASIC)](rng)


def _single(rng: random.Random, index: int) -> ConstrainedPrompt:
    """Every kind in turn."""
    makers = [*_ALONE, *_KINDS.values()]
    maker = makers[index % len(makers)]
    if not isinstance(maker, _Kind):
        return maker(rng)
    request = rng.choice(maker.requests)
    return _stated(rng, request, [maker.make(rng, request)], "single")


def _combined(rng: random.Random, index: int) -> ConstrainedPrompt:
    """Two or three kinds without a common aspect, the first one in turn."""
    first = [*_KINDS.values()][index % len(_KINDS)]
    chosen, request = [first], rng.choice(first.requests)
    for kind in rng.sample([*_KINDS.values()], len(_KINDS)):
        fits = not any(kind.aspects & other.aspects for other in chosen) and kind.requests in (OPEN, first.requests)
        if fits and len(chosen) < 2 + index % 2:
            chosen.append(kind)
    return _stated(rng, request, [kind.make(rng, request) for kind in chosen], "combined")


def _stated(rng: random.Random, request: str, constraints: Sequence[Constraint], level: Level) -> ConstrainedPrompt:
    """The request, then a sentence for each constraint."""
    sentences = [request, *(rng.choice(constraint.wordings) for constraint in constraints)]
    return ConstrainedPrompt(" ".join(sentences), tuple(constraints), level)


def _amount(rng: random.Random, *, low: int, high: int, step: int = 1) -> Amount:
    """At least, at most or between some numbers from `low` to `high`, which are multiples of `step`."""
    small, large = sorted(rng.sample(range(low, high + 1, step), 2))
    return rng.choice((Amount(low=small), Amount(high=large), Amount(small, large)))


_KINDS = {
    "words": _Kind(lambda rng, _: Words(_amount(rng, low=10, high=60, step=5)), frozenset({"length"})),
    "sentences": _Kind(lambda rng, _: Sentences(Amount(n := rng.randint(1, 4), n)), frozenset({"length", "layout"})),
    "characters": _Kind(lambda rng, _: Characters(_amount(rng, low=40, high=300, step=20)), frozenset({"length"})),
    "paragraphs": _Kind(lambda rng, _: Paragraphs(rng.randint(2, 3)), frozenset({"layout", "length"})),
    "bullets": _Kind(lambda rng, _: Bullets(rng.randint(2, 5)), frozenset({"layout", "length", "edges"}), LISTS),
    "numbered": _Kind(lambda rng, _: Numbered(rng.randint(2, 5)), frozenset({"layout", "length", "edges"}), LISTS),
    "contains": _Kind(lambda rng, _: Contains(rng.choice(WANTED), rng.choice((1, 1, 2, 3))), frozenset({"contains"})),
    "avoids": _Kind(lambda rng, _: Avoids(tuple(rng.sample(UNWANTED, rng.randint(1, 2)))), frozenset({"avoids"})),
    "without_letter": _Kind(lambda rng, _: WithoutLetter(rng.choice(LETTERS)), frozenset({"contains", "edges"})),
    "starts_with": _Kind(lambda rng, _: StartsWith(rng.choice(BEGINNINGS)), frozenset({"edges", "case"})),
    "ends_with": _Kind(lambda rng, _: EndsWith(rng.choice(ENDINGS)), frozenset({"edges", "case"})),
    "case": _Kind(lambda rng, _: Case(upper=rng.random() < 0.5), frozenset({"case", "edges"})),
    "no_commas": _Kind(lambda rng, _: NoCommas(), frozenset({"commas"})),
    "quoted": _Kind(lambda rng, _: Quoted(), frozenset({"edges", "layout"})),
    "repeats_request": _Kind(
        lambda rng, request: RepeatsRequest(request),
        frozenset({"edges", "layout", "length", "case", "contains", "avoids"}),
    ),
}


def _one_of(rng: random.Random) -> ConstrainedPrompt:
    return _stated(rng, rng.choice(YES_NO), [OneOf(rng.choice((("yes", "no"), ("true", "false"))))], "single")


def _json(rng: random.Random) -> ConstrainedPrompt:
    request, keys = rng.choice(RECORDS)
    return _stated(rng, request, [JsonObject(keys)], "single")


def _script(rng: random.Random) -> ConstrainedPrompt:
    request, script = rng.choice(FOREIGN)
    return _stated(rng, request, [InScript(cast(Script, script))], "single")


def _digits(rng: random.Random) -> ConstrainedPrompt:
    a, b = rng.randint(11, 99), rng.randint(2, 49)
    return _stated(rng, f"How much is {a} plus {b}?", [Digits()], "single")


_ALONE = (_one_of, _json, _script, _digits)


def _capitals(rng: random.Random) -> ConstrainedPrompt:
    word = rng.choice(SHORT_WORDS)
    text = rng.choice((f"Write {word} in capital letters.", f"Turn {word} into capitals."))
    return ConstrainedPrompt(text, (Case(upper=True), Contains(word)), "basic")


def _spelled(rng: random.Random) -> ConstrainedPrompt:
    word = rng.choice(SHORT_WORDS)
    text = rng.choice((f"Put spaces between the letters of {word}.", f"Write {word} letter by letter."))
    return ConstrainedPrompt(text, (Spelled(word),), "basic")


def _sorted(rng: random.Random) -> ConstrainedPrompt:
    words = tuple(rng.sample(SORTED_WORDS, 3))
    return ConstrainedPrompt(f"Put in alphabetical order: {' '.join(words)}", (Ordered(words),), "basic")


def _letter(rng: random.Random) -> ConstrainedPrompt:
    word, (which, place) = rng.choice(SHORT_WORDS), rng.choice((("first", 0), ("last", -1)))
    constraints = (Words(Amount(1, 1)), Contains(word[place]))
    return ConstrainedPrompt(f"Give the {which} letter of {word}.", constraints, "basic")


def _number(rng: random.Random) -> ConstrainedPrompt:
    number = rng.randrange(len(NUMBERS))
    return ConstrainedPrompt(f"Write {NUMBERS[number]} in digits.", (Digits(), Contains(str(number))), "basic")


def _verdict(rng: random.Random) -> ConstrainedPrompt:
    subject, claim = rng.choice(CLAIMS).split()
    return ConstrainedPrompt(f"Say yes or no. Is {subject} {claim}?", (OneOf(("yes", "no")),), "basic")


def _greeting(rng: random.Random) -> ConstrainedPrompt:
    statement = f"The {rng.choice(THINGS)} is {rng.choice(QUALITIES)}."
    constraints = (StartsWith("Hello"), EndsWith(statement))
    return ConstrainedPrompt(f"Start this with a greeting: {statement}", constraints, "basic")


def _negated(rng: random.Random) -> ConstrainedPrompt:
    thing, quality = rng.choice(THINGS), rng.choice(QUALITIES)
    constraints = (StartsWith(f"The {thing}"), Contains("not"), Contains(quality))
    return ConstrainedPrompt(f"Add the word not: The {thing} is {quality}.", constraints, "basic")


_BASIC = (_capitals, _spelled, _sorted, _letter, _number, _verdict, _greeting, _negated)
