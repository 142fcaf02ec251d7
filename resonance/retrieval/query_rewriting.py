"""Rewrites the newest message of a conversation into a stand-alone query of at most twelve words, by rules.

Fillers are removed. If the message refers to earlier ones (a pronoun, an ellipsis), the names, quotes and numbers that
it refers to are added.
"""

import re
from collections.abc import Sequence

from resonance.chat_template import Message
from resonance.retrieval.language import (
    ADDED,
    BARE,
    DANGLING,
    ELLIPSIS,
    KIND,
    LEADING,
    PERSONAL,
    REFERRING,
    TIME,
    TRAILING,
    ends_of,
    names,
    numbers,
    quotes,
    tokens,
)
from resonance.retrieval.text import STOPWORDS, sentences, word_set

MAX_WORDS = 12
TURNS = 6  # recent user turns that references may point to

_PREPOSITIONS = frozenset(
    ("of", "in", "on", "for", "from", "to", "at", "by", "with", "between", "and", "about", "vs", "or")
)
_PARTICLES = frozenset(("up", "out", "off", "down", "over", "under"))
_TELLING = frozenset(("who", "when", "where", "how", "why", "not", "no", "without", "most"))
_DROPPED = (STOPWORDS - _PREPOSITIONS - _PARTICLES - _TELLING) | word_set(
    "me really exactly ever also even anyway maybe kind sort got ones u ur"
)
_TIMES = word_set("year week month morning afternoon evening weekend summer winter spring autumn season time century")
_IMPERSONAL = word_set("raining snowing rain snow in true possible safe legal take cost to be too") | {""}
_QUESTIONS = frozenset(("who", "when", "where", "how", "why", "what", "which", "whose"))
# First words of an independent question, also after "and".
_ASKING = _QUESTIONS | word_set("is are was were do does did can could has have will should")


def standalone_query(messages: Sequence[Message], *, max_words: int = MAX_WORDS) -> str:
    """The query for the newest user message; empty if there is no message."""
    turns = [index for index, message in enumerate(messages) if message.role == "user"][-TURNS:]
    if not turns:
        return ""
    messages = messages[turns[0] :]
    turns = [index - turns[0] for index in turns]
    newest = turns[-1]
    text = _core(ends_of(messages[newest].content), alone=len(turns) == 1)
    if len(turns) > 1:
        earlier = standalone_query(messages[: turns[-2] + 1], max_words=max_words)
        answer = next((m.content for m in reversed(messages[:newest]) if m.role == "assistant"), "")
        text = _resolved(text, earlier, ends_of(answer), ends_of(messages[turns[-2]].content))
    return _shortened(text, max_words)


def depends_on_context(message: str) -> bool:
    """Whether a message cannot be understood without earlier turns."""
    text = _core(ends_of(message))
    if not text or BARE.match(text) or _pronouns(text) or _names_a_kind(text):
        return True
    ellipsis = ELLIPSIS.match(text)
    return ellipsis is not None and not _is_whole(text[ellipsis.end() :])


def _core(text: str, *, alone: bool = False) -> str:
    """The message without greetings and fillers; of a long message its question.

    `alone`: there are no earlier turns, so a pronoun refers to the message itself.
    """
    parts = [part for part in (_unfilled(part) for part in sentences(" ".join(text.split()))) if part]
    if not parts:
        return ""
    if len(parts) == 1:
        return parts[0]
    asking = [part for part in sentences(text) if part.rstrip("\"”') ").endswith("?")]
    chosen = _unfilled(asking[-1]) if asking and _unfilled(asking[-1]) else parts[0]
    rest = " ".join(part for part in parts if part != chosen)
    # Earlier sentences ("I moved to Oslo.") give the topic of the question ("What is the best school?").
    known = {word.lower() for word in tokens(chosen)}
    carried = [
        thing for thing in (*quotes(rest), *names(rest), *numbers(rest)) if not known & set(thing.lower().split())
    ]
    if alone and not carried and _pronouns(chosen):  # "I've got a leaky tap. Any idea how to fix it?"
        return _with_referents(chosen, _content(rest)[-3:])
    if not carried and not _content(chosen):  # "I lost my badge. What should I do?"
        return f"{rest} {chosen}"
    if carried and (not names(chosen) or _pronouns(chosen)):
        return _with_referents(chosen, carried[:3]) if _pronouns(chosen) else f"{chosen} {' '.join(carried[:3])}"
    return chosen


def _unfilled(sentence: str) -> str:
    """The sentence without leading and trailing fillers; `whats` becomes `what's`."""
    sentence = re.sub(r"\b(what|who|where|when|how)s\b", r"\1's", sentence.strip(), flags=re.I)
    previous = None
    while previous != sentence:
        previous = sentence
        sentence = LEADING.sub("", sentence, count=1)
    return TRAILING.sub("", sentence)


def _pronouns(text: str) -> list[str]:
    """Pronouns that refer to something outside the sentence."""
    words = ["", *(word.lower() for word in tokens(text)), ""]
    named = bool(names(text))
    return [
        word
        for before, word, after in zip(words, words[1:-1], words[2:], strict=False)
        if (stem := re.sub(r"['’]\w+$", "", word)) in REFERRING and not _is_grammatical(before, stem, after, named)
    ]


def _is_grammatical(before: str, word: str, after: str, named: bool) -> bool:
    """Whether a pronoun refers to nothing: `there is`, `this year`, `know that`, `is it raining`."""
    if word == "there":
        return before in ("is", "are", "was", "were", "will") or after in ("is", "are", "was", "were")
    if word in ("this", "these", "those", "that") and after in _TIMES:
        return True
    if word == "that":
        return before not in (
            "",
            "is",
            "was",
            "of",
            "about",
            "in",
            "on",
            "like",
            "did",
            "does",
            "do",
            "for",
            "and",
            "why",
        )
    if word == "it":
        return named and before in ("is", "does", "time", "will") and after in _IMPERSONAL
    # "Is there one upstairs?", but "one of them", "one thing"
    follows = not after or not after[0].isalnum() or after in STOPWORDS or DANGLING.match(after) is not None
    return word == "one" and before not in ("which", "that", "this", "other", "the") and not follows


def _resolved(text: str, earlier: str, answer: str, earlier_message: str) -> str:
    """The message with its references filled in from the earlier query and answer."""
    if not text or BARE.match(text):
        kept = [
            word
            for word in tokens(text)
            if word.lower() in _QUESTIONS or word.lower() in ("old", "many", "much", "long", "tall", "far", "big")
        ]
        return " ".join((*kept, *(word for word in earlier.split() if word.lower() not in _QUESTIONS)))
    pronouns = _pronouns(text)
    if pronouns:
        return _with_referents(text, _referents(pronouns, earlier, answer, earlier_message))
    match = ELLIPSIS.match(text)
    rest = text[match.end() :] if match else text
    if (match and not _is_whole(rest)) or _is_fragment(text):
        return _substituted(rest, earlier)
    if _names_a_kind(rest):
        return " ".join((rest, *_referents([], earlier, answer, earlier_message)))
    return rest


def _referents(pronouns: list[str], earlier: str, answer: str, earlier_message: str) -> list[str]:
    """What the pronouns refer to: names and quotes of the earlier query or its answer, else its nouns."""
    topics = [*quotes(earlier_message), *_named(earlier)]
    known = " ".join(topics).lower()
    answered = [name for name in names(" ".join(sentences(answer)[:2])) if name.lower() not in known]
    opens = {re.sub(r"['’]\w+$", "", word) for word in tokens(earlier_message.lower())[:3]}
    if any(re.sub(r"['’]\w+$", "", word) in PERSONAL for word in pronouns):
        # "Who wrote Hamlet?" "Shakespeare." "When was he born?": the answer, not the topic of the question.
        identified = answered and opens & {"who", "which", "what", "name"}
        return answered[:1] if identified and not _is_about_person(earlier_message) else (topics or answered)[:1]
    # "Which lake is the largest?" "Lake Victoria." "How deep is it?": the answer first.
    chosen = answered[:1] if answered and ("which" in opens or {"what", "the"} <= opens) else []
    if topics or chosen:
        return [*chosen, *topics[: 2 - len(chosen)], *numbers(earlier_message)[:1]]
    if answered:
        return answered[:1]
    return [word for word in earlier.split() if word.lower() not in STOPWORDS and word.lower() not in _QUESTIONS][:4]


def _named(query: str) -> list[str]:
    """The names in a query, which may start with a question word."""
    first, _, rest = query.partition(" ")
    return names(f"x {rest if first.lower() in _QUESTIONS else query}")


def _is_about_person(question: str) -> bool:
    """`Who is Marie Curie?` names the person it is about; `Who wrote Hamlet?` and `Who is the CEO of Apple?` do not."""
    return (
        re.match(r"\W*(?i:who(?:'s| is| was| are| were)|what (?:did|does|is|was)(?: the)?)\s+[A-Z]", question)
        is not None
    )


def _with_referents(text: str, referents: Sequence[str]) -> str:
    """The text with its first pronoun replaced by its referents, and further pronouns removed."""
    waiting = set(_pronouns(text))
    out: list[str] = []
    placed = False
    for word in tokens(text):
        if word.lower() not in waiting:
            out.append(word)
        elif not placed:
            out.extend(referents)
            placed = True
    return " ".join(out)


def _names_a_kind(text: str) -> bool:
    """Whether a message without names refers to something by its kind or location."""
    return not names(text) and not quotes(text) and bool(DANGLING.search(text) or KIND.search(text))


def _is_whole(text: str) -> bool:
    """Whether a message is an independent question: `When did the Titanic sink?`."""
    words = tokens(text.lower())
    return bool(words) and re.sub(r"['’]\w+$", "", words[0]) in _ASKING and len(_content(text)) > 1


def _content(text: str) -> list[str]:
    """The content words of a text."""
    return [word for word in tokens(text) if word[0].isalnum() and word.lower() not in STOPWORDS | _DROPPED]


def _is_fragment(text: str) -> bool:
    """Whether a message is one or two words and no independent question: `Germany?`, `In 1990?`."""
    words = [word for word in tokens(text) if word[0].isalnum()]
    content = [word for word in words if word.lower() not in STOPWORDS]
    return len(content) <= 1 and len(words) <= 3 and not ({word.lower() for word in words} & _QUESTIONS)


def _substituted(fragment: str, earlier: str) -> str:
    """The earlier query with its name, number or last noun replaced by the new one."""
    if TIME.match(fragment) or ADDED.match(fragment):
        return f"{earlier} {fragment}"
    new_names, old_names = names(f"x {fragment}"), _named(earlier)
    if new_names and old_names:
        return _swapped(earlier, old_names[-1], " ".join(new_names))
    new_numbers, old_numbers = numbers(fragment), numbers(earlier)
    if new_numbers and old_numbers:
        return _swapped(earlier, old_numbers[-1], new_numbers[0])
    content = _content(fragment)
    if new_numbers or not content or (new_names and not old_names):
        return f"{earlier} {' '.join(content)}"
    of_it = re.match(r"the\b", fragment, re.I) is not None  # "the area?", of the earlier topic
    if len(content) == 1 and not of_it and not old_names and " " in earlier:
        return f"{earlier[: earlier.rindex(' ')]} {content[0]}"
    kept = [*old_names, *numbers(earlier)] or [word for word in earlier.split() if word not in STOPWORDS][-2:]
    return " ".join((*content, *kept))


def _swapped(text: str, old: str, new: str) -> str:
    head, _, tail = text.rpartition(old)
    return f"{head}{new}{tail}"


def _shortened(text: str, most: int) -> str:
    """Content words and the words that connect them, at most `most`; names, quotes and numbers are dropped last."""
    quoted = {word for quote in quotes(text) for word in quote.split()}
    words = [word for word in tokens(re.sub(r"['’]s\b", "", text)) if word[0].isalnum()]
    kept = [word for word in words if word in quoted or _is_name(word) or word.lower() not in _DROPPED]
    while kept and kept[0].lower() in _PREPOSITIONS:
        kept.pop(0)
    while kept and kept[-1].lower() in _PREPOSITIONS:
        kept.pop()
    kept = kept or words
    kept = [word for index, word in enumerate(kept) if not index or word.lower() != kept[index - 1].lower()]
    if len(kept) > most:
        kept = [word for word in kept if word in quoted or word.lower() not in STOPWORDS]
    if len(kept) > most:
        held = {word for thing in (*names(f"x {text}"), *numbers(text)) for word in thing.split()} | quoted
        spare = len(kept) - most
        for index in range(len(kept) - 1, -1, -1):
            if spare and kept[index] not in held:
                del kept[index]
                spare -= 1
    return " ".join(kept[:most])


def _is_name(word: str) -> bool:
    return word[0].isupper() and word.lower() not in STOPWORDS and word.lower() not in _DROPPED
