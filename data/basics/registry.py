"""The list of all built-in families."""

from __future__ import annotations

from data.basics import facts, numbers, reading, talk, words

FAMILIES = {
    family.name: family
    for family in (
        facts.capitals,
        facts.countries,
        facts.animals,
        facts.elements,
        facts.kinds,
        facts.everyday,
        facts.calendar,
        words.opposites,
        words.plurals,
        words.past_tense,
        words.letters,
        words.spelling,
        words.sorting,
        words.rewriting,
        numbers.sums,
        numbers.number_words,
        numbers.counting,
        numbers.comparisons,
        numbers.units,
        talk.greetings,
        talk.identity,
        talk.yes_no,
        talk.follow_ups,
        reading.context,
        reading.sources,
    )
}
