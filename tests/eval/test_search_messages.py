"""The labelled messages on which deciding when to search, and for what, is measured."""

from collections import Counter

import pytest

from eval.search_messages import Outcome, labelled_messages, main, outcome, scores, table


def test_the_set_has_messages_in_several_languages_and_scripts_a_third_of_them_held_back() -> None:
    parts = {part: labelled_messages(part) for part in ("tuning", "held")}
    everything = labelled_messages()
    assert len(everything) >= 240 and len(parts["tuning"]) + len(parts["held"]) == len(everything)
    assert 0.28 < len(parts["held"]) / len(everything) < 0.39
    languages = Counter(labelled.language for labelled in everything)
    assert all(languages[language] >= 24 for language in ("de", "en", "fr", "es", "ru", "ja"))
    assert len({labelled.turns for labelled in everything}) == len(everything)
    for language in ("de", "en", "fr", "es", "ru", "ja"):
        own = [labelled for labelled in everything if labelled.language == language]
        assert any(labelled.explicit for labelled in own) and any(len(labelled.turns) > 1 for labelled in own)
        assert 0.25 < sum(labelled.search for labelled in own) / len(own) < 0.75


def test_words_are_labelled_where_there_is_something_to_search_for_and_stand_in_the_conversation() -> None:
    for labelled in labelled_messages():
        assert bool(labelled.words) == labelled.search and (labelled.search or not labelled.explicit)
        conversation = " ".join(labelled.turns).casefold()
        assert all(word.casefold() in conversation for word in labelled.words), labelled


def test_scores_are_shares_of_what_is_due_and_of_what_is_made() -> None:
    due, other = labelled_messages()[0], next(one for one in labelled_messages() if not one.search)
    assert due.search and len(due.words) == 2
    outcomes = [
        Outcome(due, searched=True, reason="", query="a b", found=1, length=2),
        Outcome(due, searched=False, reason="", query="", found=0, length=0),
        Outcome(other, searched=True, reason="", query="c", found=0, length=1),
    ]
    counted = scores("all", outcomes)
    assert (counted.precision, counted.recall, counted.query_recall) == (0.5, 0.5, 0.25)
    assert counted.query_precision == 0.5 and counted.obeyed is None
    assert "| all | 3 | 50% | 50% | - | 25% | 50% |" in table([counted])


def test_mistakes_are_shown_of_the_part_for_tuning_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["held"]) == 0
    held = capsys.readouterr().out
    assert all(line.startswith("|") for line in held.splitlines())
    assert main(["anything"]) == 2
    assert "tuning or held" in capsys.readouterr().err


def test_the_rules_decide_and_make_queries_on_the_part_that_they_are_tuned_on() -> None:
    outcomes = [outcome(labelled) for labelled in labelled_messages("tuning")]
    everything = scores("all", outcomes)
    print(table([everything]))
    assert min(everything.precision or 0, everything.recall or 0, everything.query_recall or 0) > 0.95
    assert (everything.obeyed or 0) > 0.95
    assert (everything.query_precision or 0) > 0.8


def test_the_rules_hold_on_the_part_that_they_are_not_tuned_on() -> None:
    everything = scores("all", [outcome(labelled) for labelled in labelled_messages("held")])
    assert min(everything.precision or 0, everything.recall or 0, everything.obeyed or 0) >= 0.9
    assert min(everything.query_recall or 0, everything.query_precision or 0) >= 0.8


def test_a_query_counts_the_words_that_it_has_in_any_case() -> None:
    labelled = next(one for one in labelled_messages() if one.turns == ("wie alt ist otto waalkes",))
    assert outcome(labelled).found >= 2
