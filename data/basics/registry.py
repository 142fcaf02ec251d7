"""The list of all built-in families, and of those that are there for being mixed into other data."""

from __future__ import annotations

from data.basics import beyond, cited, copying, facts, notes, numbers, reading, talk, words

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
        beyond.beyond,
        reading.context,
        reading.sources,
    )
}

# Harder ones, made where they are asked for by name: too much for the few minutes of the demo, and what a pretrained
# model needs to see among other data before it answers from sources.
MIX_IN = {family.name: family for family in (notes.notes, cited.cited, copying.copying)}
