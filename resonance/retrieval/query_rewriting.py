"""Rewrites the newest message of a conversation into a stand-alone query of at most twelve words, by rules.

Fillers and stop words are removed. If the message refers to earlier ones (a pronoun, an ellipsis), the names, quotes
and numbers that it refers to are added. The words come from the lexicon of the message's language; in a language
without one the query is the message's own content words.
"""

import re
from collections.abc import Sequence

from resonance.chat_template import Message
from resonance.retrieval.language import content, names, numbers, plain, quotes, tokens
from resonance.retrieval.lexicon import Lexicon, lexica, lexicon_of
from resonance.retrieval.text import sentences

MAX_WORDS = 12
TURNS = 6  # recent user turns that references may point to
_EDGES = " \t,.!?;:—–-？。、！؟"


def standalone_query(messages: Sequence[Message], *, max_words: int = MAX_WORDS) -> str:
    """The query for the newest user message; empty if there is no message."""
    turns = [index for index, message in enumerate(messages) if message.role == "user"][-TURNS:]
    if not turns:
        return ""
    lexicon = lexicon_of([messages[index].content for index in turns])
    return _shortened(_standalone(messages[turns[0] : turns[-1] + 1], lexicon), lexicon, max_words)


def depends_on_context(text: str, lexicon: Lexicon) -> bool:
    """Whether a message cannot be understood without earlier turns."""
    text = _core(text, lexicon)
    if not text or lexicon.match("bare", text, "whole") or _pronouns(text, lexicon):
        return True
    if lexicon.match("kinds", text) and not names(text, lexicon):
        return True
    ellipsis = lexicon.match("ellipsis", text, "start")
    elided = ellipsis is not None and not _is_whole(text[ellipsis.end() :], lexicon)
    return elided or _is_fragment(text, lexicon)


def _standalone(messages: Sequence[Message], lexicon: Lexicon) -> str:
    """The newest message in its own words, with what it refers to."""
    turns = [index for index, message in enumerate(messages) if message.role == "user"]
    text = _core(plain(messages[-1].content, lexicon), lexicon, alone=len(turns) == 1)
    if len(turns) == 1:
        return text
    earlier = _standalone(messages[: turns[-2] + 1], lexicon)
    answer = next((m.content for m in reversed(messages[:-1]) if m.role == "assistant"), "")
    return _resolved(text, earlier, plain(answer, lexicon), plain(messages[turns[-2]].content, lexicon), lexicon)


def _core(text: str, lexicon: Lexicon, *, alone: bool = False) -> str:
    """The message without greetings and fillers; of a long message its question.

    `alone`: there are no earlier turns, so a pronoun refers to the message itself.
    """
    whole = sentences(text)
    parts = [part for part in (_unfilled(part, lexicon) for part in whole) if part]
    if len(parts) < 2:
        return "".join(parts)
    asking = [part for part in whole if part.rstrip("\"”') ").endswith(("?", "؟", "？"))]
    chosen = _unfilled(asking[-1], lexicon) if asking and _unfilled(asking[-1], lexicon) else parts[0]
    rest = " ".join(part for part in parts if part != chosen)
    # Earlier sentences ("I moved to Oslo.") give the topic of the question ("What is the best school?").
    known = {word.lower() for word in tokens(chosen, lexicon)}
    carried = [
        thing
        for thing in (*quotes(rest), *names(rest, lexicon), *numbers(rest))
        if not known & set(thing.lower().split())
    ]
    referring = bool(_pronouns(chosen, lexicon))
    if alone and not carried and referring:  # "I've got a leaky tap. Any idea how to fix it?"
        return _with_referents(chosen, content(rest, lexicon)[-3:], lexicon)
    if not carried and not content(chosen, lexicon):  # "I lost my badge. What should I do?"
        return f"{rest} {chosen}"
    named = [name for name in names(chosen, lexicon) if not any(map(str.isdigit, name))]  # "error E18" names nothing
    if carried and (referring or not named):
        return _with_referents(chosen, carried[:3], lexicon)
    return chosen


def _unfilled(sentence: str, lexicon: Lexicon) -> str:
    """The sentence without requests for a search, and without fillers at both ends."""
    for one in lexica():
        if (found := one.match("explicit", sentence)) is not None:
            sentence = f"{sentence[: found.start()]} {sentence[found.end() :]}"
    sentence = sentence.strip(_EDGES)
    if not lexicon.spaced:
        while (found := lexicon.match("fillers", sentence)) is not None:
            sentence = f"{sentence[: found.start()]} {sentence[found.end() :]}"
        return sentence.strip(_EDGES)
    previous = None
    while previous != sentence:
        previous = sentence
        if (found := lexicon.match("fillers", sentence, "start")) is not None:
            sentence = sentence[found.end() :].strip(_EDGES)
    return sentence


def _pronouns(text: str, lexicon: Lexicon) -> list[str]:
    """Pronouns that refer to something outside the sentence."""
    while (found := lexicon.match("impersonal", text)) is not None:
        text = f"{text[: found.start()]} {text[found.end() :]}"
    if not lexicon.spaced:
        return [word for word in sorted(lexicon.set("pronouns"), key=len, reverse=True) if word in text][:1]
    known = lexicon.set("pronouns")
    words = (re.sub(r"['’]\w+$", "", word.lower()) for word in tokens(text, lexicon))
    return [word for word in words if word in known]


def _resolved(text: str, earlier: str, answer: str, earlier_message: str, lexicon: Lexicon) -> str:
    """The message with its references filled in from the earlier query and answer."""
    match = lexicon.match("ellipsis", text, "start")
    rest = text[match.end() :].strip(_EDGES) if match else text
    if not rest or lexicon.match("bare", rest, "whole"):
        keep = {*lexicon.set("keep"), *content(rest, lexicon)} - {"more"}
        kept = [word for word in tokens(rest, lexicon) if word.lower() in keep]
        return " ".join((*kept, *content(earlier, lexicon)))
    pronouns = _pronouns(text, lexicon)
    if pronouns:
        return _with_referents(text, _referents(pronouns, earlier, answer, earlier_message, lexicon), lexicon)
    if (match and not _is_whole(rest, lexicon)) or (lexicon.known and _is_fragment(text, lexicon)):
        return _substituted(rest, earlier, lexicon)
    if not names(rest, lexicon) and not quotes(rest) and _says_little(rest, lexicon):
        return " ".join((rest, *_referents([], earlier, answer, earlier_message, lexicon)))
    return rest


def _says_little(text: str, lexicon: Lexicon) -> bool:
    return lexicon.match("kinds", text) is not None or len(content(text, lexicon)) <= 1


def _referents(pronouns: list[str], earlier: str, answer: str, earlier_message: str, lexicon: Lexicon) -> list[str]:
    """What the pronouns refer to: names and quotes of the earlier query or its answer, else its nouns."""
    topics = [*quotes(earlier_message), *(names(earlier, lexicon) or names(earlier, lexicon, nouns=True))]
    known = " ".join(topics).lower()
    beginning = " ".join(sentences(answer)[:2])
    answered = [name for name in names(beginning, lexicon) if name.lower() not in known]
    if not answered and not lexicon.spaced:
        answered = content(beginning, lexicon)[:1]
    how = "start" if lexicon.spaced else "anywhere"
    if not lexicon.known:
        chosen = [*answered[:1], *topics[:1]]
    elif lexicon.set("personal") & set(pronouns):
        # "Who wrote Hamlet?" "Shakespeare." "When was he born?": the answer, not the topic of the question.
        identified = lexicon.match("identifies", earlier_message, how) and not _is_about(
            earlier_message, topics, lexicon
        )
        chosen = answered[:1] if answered and identified else (topics or answered)[:1]
    elif answered and lexicon.match("which", earlier_message, how):
        # "Which lake is the largest?" "Lake Victoria." "How deep is it?"
        chosen = [answered[0], *topics[:1]]
    else:
        chosen = [*topics[:2], *numbers(earlier_message)[:1]] if topics else []
    return chosen or content(earlier, lexicon)[:4]


def _is_about(question: str, topics: Sequence[str], lexicon: Lexicon) -> bool:
    """Whether a question is about its topic alone: `Who is Marie Curie?`, but not `Who wrote Hamlet?`."""
    return bool(topics) and " ".join(content(question, lexicon)) == topics[0]


def _with_referents(text: str, referents: Sequence[str], lexicon: Lexicon) -> str:
    """The text with its first pronoun replaced by its referents, further pronouns removed; else referents behind it."""
    waiting = set(_pronouns(text, lexicon))
    if not waiting:
        return f"{text} {' '.join(referents)}"
    if not lexicon.spaced:
        return " ".join((*referents, text.replace(next(iter(waiting)), " ")))
    out: list[str] = []
    placed = False
    for word in tokens(text, lexicon):
        if re.sub(r"['’]\w+$", "", word.lower()) not in waiting:
            out.append(word)
        elif not placed:
            out.extend(referents)
            placed = True
    return " ".join(out)


def _is_whole(text: str, lexicon: Lexicon) -> bool:
    """Whether a message is an independent question: `When did the Titanic sink?`."""
    asks = lexicon.match("asks", text, "start") or lexicon.match("questions", text, "start")
    return asks is not None and len(content(text, lexicon)) > 1


def _is_fragment(text: str, lexicon: Lexicon) -> bool:
    """Whether a message is one or two words and no independent question: `Germany?`, `In 1990?`."""
    words = [word for word in tokens(text, lexicon) if word[0].isalnum()]
    most = 3 if lexicon.spaced else 4
    return len(content(text, lexicon)) <= 1 and len(words) <= most and not lexicon.match("asks", text)


def _substituted(fragment: str, earlier: str, lexicon: Lexicon) -> str:
    """The earlier query with its name, number or last noun replaced by the new one."""
    if lexicon.match("times", fragment, "whole"):
        return f"{earlier} {fragment}"
    new_names, old_names = names(fragment, lexicon, inside=True), names(earlier, lexicon)
    if new_names and old_names:
        return _swapped(earlier, old_names[-1], " ".join(new_names))
    new_numbers, old_numbers = numbers(fragment), numbers(earlier)
    if new_numbers and old_numbers:
        return _swapped(earlier, old_numbers[-1], new_numbers[0])
    new = content(fragment, lexicon)
    if new_numbers or not new or (new_names and not old_names):
        return f"{earlier} {' '.join(new)}"
    old = content(earlier, lexicon)
    if len(new) == 1 and not old_names and len(old) > 1:
        return _swapped(earlier, old[-1], new[0])
    return " ".join((*new, *([*old_names, *numbers(earlier)] or old[-2:])))


def _swapped(text: str, old: str, new: str) -> str:
    head, _, tail = text.rpartition(old)
    return f"{head}{new}{tail}"


def _shortened(text: str, lexicon: Lexicon, most: int) -> str:
    """The content words, at most `most`, with question words; names, quotes and numbers are dropped last."""
    quoted = {word for quote in quotes(text) for word in quote.split()}
    words = [word for word in tokens(re.sub(r"['’]s\b", "", text), lexicon) if word[0].isalnum()]
    wanted = {*content(text, lexicon), *quoted}
    keep = lexicon.set("keep")
    kept = [word for word in words if word in wanted or word.lower() in keep] or words
    kept = [word for index, word in enumerate(kept) if not index or word.lower() != kept[index - 1].lower()]
    if len(kept) > most:
        held = {word for thing in (*names(text, lexicon), *numbers(text)) for word in thing.split()} | quoted
        spare = len(kept) - most
        for index in range(len(kept) - 1, -1, -1):
            if spare and kept[index] not in held:
                del kept[index]
                spare -= 1
    return " ".join(kept[:most])
