"""Measures how often people agree who judged the answers to the same question."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from serve.judgements.judgement import Judgement, normalised


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two people who gave or approved of an answer to the same question are a pair; at least one of them corrected.

    `questions` have such pairs. `contradicted` counts, by owner, the pairs in which somebody else said otherwise,
    `compared` all of the owner's pairs.
    """

    questions: int
    pairs: int
    disagreeing: int
    compared: Mapping[str, int]
    contradicted: Mapping[str, int]

    def as_json(self, names: Mapping[str, str]) -> dict[str, object]:
        """The figures in JSON types; `names` are the owners' names by id."""
        return {
            "questions": self.questions,
            "pairs": self.pairs,
            "disagreeing": self.disagreeing,
            "owners": {
                names.get(owner, owner): {"compared": count, "contradicted": self.contradicted.get(owner, 0)}
                for owner, count in self.compared.items()
            },
        }


def agreement(judgements: Sequence[Judgement]) -> Agreement:
    """Compare the newest answer that each person learned or approved of, by question.

    Questions that nobody corrected are left out: two good answers to one question need not be the same.
    """
    by_question: defaultdict[str, dict[str, Judgement]] = defaultdict(dict)
    for one in sorted(judgements, key=lambda each: each.at):
        if one.kind == "example":
            by_question[one.prompt_key][one.owner] = one
    questions = pairs = disagreeing = 0
    compared: Counter[str] = Counter()
    contradicted: Counter[str] = Counter()
    for answers in by_question.values():
        if len(answers) < 2 or all(one.origin != "correction" for one in answers.values()):
            continue
        questions += 1
        for first, second in combinations(answers.values(), 2):
            owners = (first.owner, second.owner)
            compared.update(owners)
            pairs += 1
            if normalised(first.answer) != normalised(second.answer):
                disagreeing += 1
                contradicted.update(owners)
    return Agreement(questions, pairs, disagreeing, compared, contradicted)
