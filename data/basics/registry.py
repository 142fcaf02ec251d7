"""The registry of built-in families, and of those for mixing into other data."""

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

# Harder families, included only by name: too hard for the few minutes of the demo, but needed by a pretrained model
# that is to answer from sources.
MIX_IN = {family.name: family for family in (notes.notes, cited.cited, copying.copying)}
