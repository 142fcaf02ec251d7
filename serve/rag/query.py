"""From a conversation to a stand-alone query of at most twelve words, without another model.

Fillers go. Where the newest message leans on earlier ones (a pronoun, an ellipsis), the names, quotes and
numbers that it leans on come along.
"""

import re
from collections.abc import Sequence

from resonance.chat import Message
from serve.rag.language import PERSONAL, REFERRING, names, numbers, quotes, tokens
from serve.rag.sanitize import visible
from serve.rag.text import STOPWORDS, sentences

MAX_WORDS = 12

# Said to the assistant and not about the matter; taken off the front as long as one of them stands there.
_LEADING = re.compile(
    r"^(?:"
    r"(?:hi|hello|hey|hiya|greetings|dear|good (?:morning|afternoon|evening|day))(?: there| you| assistant| all)?\b"
    r"|please|pls|plz|ok(?:ay)?|so|well|hmm+|um+|uh+|oh|right|sure|great|cool|nice|thanks?(?: you)?(?: so much| a lot)?"
    r"|alright|actually|anyway|by the way|btw|just|quick question|question|one more thing|also|now then|perfect|yes|yeah|no"
    r"|sorry|excuse me|pardon me"
    r"|(?:can|could|would|will) you (?:please |kindly |maybe |perhaps |possibly |quickly )*"
    r"(?:(?:tell|show|give|explain to|remind|help) me(?: (?:about|with|find(?: out)?|understand|know))?|explain|describe|find(?: out)?"
    r"|say|check|list|look(?: up| for| into)?|search(?: for| the (?:web|internet) for)?|answer)"
    r"|(?:please )?(?:tell|show|remind) me(?: more| something| everything| all)?(?: about)?"
    r"|give me(?: (?:some|more|any))?(?: (?:information|info|details|facts|background))?(?: (?:about|on|of|regarding))?"
    r"|(?:do|did|would) you (?:happen to )?know(?: anything)?(?: about)?(?: (?:if|whether))?"
    r"|what (?:can|could) you tell me about|what do you know about|have you (?:ever )?heard (?:of|about)"
    r"|i(?:'m| am)? ?(?:was |am )?(?:just |also |really )?(?:wondering|curious|interested|asking)(?: (?:about|if|whether|in))?"
    r"|i(?:'d| would)? ?(?:really |also |just )?(?:like|love|want|need) (?:you )?to (?:know|learn|find(?: out)?|understand|hear|ask|tell me"
    r"|see|look up)(?: (?:more|something))?(?: (?:about|if|whether))?"
    r"|i (?:have|got) a(?: quick)? question(?: (?:about|for you|on))?|my question is"
    r"|(?:look up|search (?:for|the (?:web|internet|net) for|online for|on the (?:web|internet) for)|search|google|find out"
    r"|find (?:me )?(?:information|info|something|out) (?:about|on)|check online)"
    r"|explain(?: to me)?|describe|let(?:'s| us) talk about|i (?:think|guess|believe|wonder)(?: (?:about|if|whether))?"
    r")\b[\s,.:;!?—–-]*",
    re.I,
)
_TRAILING = re.compile(
    r"[\s,.!?;:—–-]*(?:\b(?:please|thanks?(?: you)?(?: so much| a lot| in advance)?|if you (?:can|know|don't mind)|for me"
    r"|right|you know|by any chance|exactly|again|do you know|or something|would you|can you tell me|i wonder|cheers)\b)?[\s,.!?;:—–-]*$",
    re.I,
)
_ELLIPSIS = re.compile(
    r"^(?:and|or|but|what about|how about|and what about|and how about|then|same for|also)\b[\s,:]*", re.I
)
_BARE = re.compile(
    r"^(?:(?:and |but )?(?:why|when|where|who|how|how (?:many|much|old|long|far|big|tall|so|come|often)|which(?: one)?|what else|what then|since when"
    r"|why not|really|is that so)|(?:tell me |any |some |say )?more(?: (?:details|info|information|please))?|go on|continue|keep going|elaborate"
    r"|details|(?:and |what )?else|more about (?:it|that|this)|are you sure|(?:can you )?(?:explain|elaborate)(?: (?:that|this|it|further|more))?)$",
    re.I,
)
_PREPOSITIONS = frozenset(
    ("of", "in", "on", "for", "from", "to", "at", "by", "with", "between", "and", "about", "vs", "or")
)
_DROPPED = (
    STOPWORDS - _PREPOSITIONS - frozenset(("who", "when", "where", "how", "why", "not", "no", "most"))
) | frozenset(("me", "really", "exactly", "ever", "also", "even", "anyway", "maybe", "kind", "sort", "got"))
_QUESTIONS = frozenset(("who", "when", "where", "how", "why", "what", "which", "whose"))


def standalone_query(messages: Sequence[Message], *, max_words: int = MAX_WORDS) -> str:
    """What to search for so that the newest user message can be answered; empty when there is none."""
    turns = [index for index, message in enumerate(messages) if message.role == "user"]
    if not turns:
        return ""
    newest = turns[-1]
    text = _core(visible(messages[newest].content))
    if len(turns) > 1:
        earlier = standalone_query(messages[: turns[-2] + 1], max_words=max_words)
        answer = next((m.content for m in reversed(messages[:newest]) if m.role == "assistant"), "")
        text = _resolved(text, earlier, visible(answer), visible(messages[turns[-2]].content))
    return _shortened(text, max_words)


def leans_on_earlier(message: str) -> bool:
    """Whether a message cannot be understood without the turns before it."""
    text = _core(visible(message))
    return bool(_ELLIPSIS.match(text) or _BARE.match(text) or not text or _pronouns(text))


def _core(text: str) -> str:
    """The message without greetings and fillers; of a long one the sentence that asks."""
    parts = [part for part in (_unfilled(part) for part in sentences(" ".join(text.split()))) if part]
    if not parts:
        return ""
    if len(parts) == 1:
        return parts[0]
    asking = [part for part in sentences(text) if part.rstrip("\"”') ").endswith("?")]
    chosen = _unfilled(asking[-1]) if asking and _unfilled(asking[-1]) else parts[0]
    rest = " ".join(part for part in parts if part != chosen)
    # What a message says first ("I moved to Oslo.") is what its question is about ("What is the best school?").
    known = {word.lower() for word in tokens(chosen)}
    carried = [
        thing for thing in (*quotes(rest), *names(rest), *numbers(rest)) if not known & set(thing.lower().split())
    ]
    if carried and (not names(chosen) or _pronouns(chosen)):
        return _with_referents(chosen, carried[:3]) if _pronouns(chosen) else f"{chosen} {' '.join(carried[:3])}"
    return chosen


def _unfilled(sentence: str) -> str:
    sentence = sentence.strip()
    previous = None
    while previous != sentence:
        previous = sentence
        shorter = _LEADING.sub("", sentence, count=1)
        # "Search engines" and "No Country for Old Men" begin with a filler's word and are not fillers.
        if (
            shorter
            and shorter[0].islower() is False
            and sentence[: len(sentence) - len(shorter)].strip().lower() in ("no", "search", "right")
        ):
            break
        sentence = shorter
    return _TRAILING.sub("", sentence)


def _pronouns(text: str) -> list[str]:
    """Words that stand for something named elsewhere: not `that` or `it` where the sentence itself supplies it."""
    words = [word.lower() for word in tokens(text)]
    found: list[str] = []
    for place, word in enumerate(words):
        stem = re.sub(r"['’]\w+$", "", word)
        if stem not in REFERRING:
            continue
        before = words[place - 1] if place else ""
        after = words[place + 1] if place + 1 < len(words) else ""
        if stem == "there" and (
            before in ("is", "are", "was", "were", "will") or after in ("is", "are", "was", "were")
        ):
            continue
        if stem in ("this", "that", "these", "those") and after.isalpha() and after not in STOPWORDS:
            if stem == "that" or after in (
                "year",
                "week",
                "month",
                "morning",
                "evening",
                "weekend",
                "summer",
                "winter",
                "season",
            ):
                continue
        if (
            stem == "that"
            and place > 1
            and before not in ("is", "was", "of", "about", "in", "like", "did", "does", "do", "for")
        ):
            continue
        if (
            stem == "it"
            and (
                before in ("is", "does", "time")
                and after in ("raining", "snowing", "in", "true", "possible", "safe", "legal", "take", "cost", "to", "")
            )
            and names(text)
        ):
            continue
        if stem == "one" and before not in ("which", "that", "this", "other", "the"):
            continue
        found.append(word)
    return found


def _resolved(text: str, earlier: str, answer: str, earlier_message: str) -> str:
    """The message with what it leans on filled in from the earlier query and answer."""
    if not text or _BARE.match(text):
        kept = [
            word
            for word in tokens(text)
            if word.lower() in _QUESTIONS or word.lower() in ("old", "many", "much", "long", "tall", "far", "big")
        ]
        return " ".join((*kept, *(word for word in earlier.split() if word.lower() not in _QUESTIONS)))
    pronouns = _pronouns(text)
    if pronouns:
        return _with_referents(text, _referents(pronouns, earlier, answer, earlier_message))
    match = _ELLIPSIS.match(text)
    if match or _is_fragment(text):
        return _substituted(text[match.end() :] if match else text, earlier)
    return text


def _referents(pronouns: list[str], earlier: str, answer: str, earlier_message: str) -> list[str]:
    first = " ".join(sentences(answer)[:2])
    asked = [*quotes(earlier_message), *names(earlier)]
    known = " ".join(asked).lower()
    answered = [name for name in names(first) if name.lower() not in known]
    personal = any(re.sub(r"['’]\w+$", "", word) in PERSONAL for word in pronouns)
    opens = tokens(earlier_message.lower())[:3]
    identity = bool({"who", "which", "what's", "who's", "what", "name"} & set(opens)) and bool(answered)
    # "Who wrote Hamlet?" "Shakespeare." "When was he born?": the answer, not what was asked about.
    if personal and identity and not _is_about_person(earlier_message):
        return answered[:1]
    if asked:
        return [*asked[:2], *numbers(earlier_message)[:1]] if not personal else asked[:1]
    if answered:
        return answered[:1]
    return [word for word in earlier.split() if word.lower() not in STOPWORDS and word.lower() not in _QUESTIONS][:4]


def _is_about_person(question: str) -> bool:
    """`Who is Marie Curie?` names the person it is about; `Who wrote Hamlet?` does not."""
    return re.match(
        r"\W*(?:who(?:'s| is| was| are| were)|what (?:did|does|is|was))\s+(?:the\s+\w+\s+)?[A-Z]", question
    ) is not None and not re.match(r"\W*who(?:'s| is| was)\s+the\b", question, re.I)


def _with_referents(text: str, referents: Sequence[str]) -> str:
    """The text with its first pronoun replaced by what it stands for, further pronouns dropped."""
    waiting = {word for word in _pronouns(text)}
    out: list[str] = []
    placed = False
    for word in tokens(text):
        if word.lower() not in waiting:
            out.append(word)
        elif not placed:
            out.extend(referents)
            placed = True
    return " ".join(out)


def _is_fragment(text: str) -> bool:
    """One or two words that are no question of their own: `Germany?`, `In 1990?`."""
    words = [word for word in tokens(text) if word[0].isalnum()]
    content = [word for word in words if word.lower() not in STOPWORDS]
    return len(content) <= 1 and len(words) <= 3 and not ({word.lower() for word in words} & _QUESTIONS)


def _substituted(fragment: str, earlier: str) -> str:
    """The earlier query about something else: the new name, number or last noun takes the old one's place."""
    new_names, old_names = names(f"x {fragment}"), names(f"x {earlier}")
    if new_names and old_names:
        return _swapped(earlier, old_names[-1], " ".join(new_names))
    new_numbers, old_numbers = numbers(fragment), numbers(earlier)
    if new_numbers and old_numbers:
        return _swapped(earlier, old_numbers[-1], new_numbers[0])
    content = [word for word in tokens(fragment) if word.lower() not in STOPWORDS and word[0].isalnum()]
    has_article = re.match(r"(?:the|a|an)\b", fragment, re.I) is not None
    last = re.search(r"\b(?:of|in|for|from|to)\s+([\w-]+)$", earlier)
    if last and not has_article and not old_names and len(content) == 1 and not new_numbers:
        return earlier[: last.start(1)] + content[0]
    if new_numbers or not content or (new_names and not old_names):
        return f"{earlier} {' '.join(content)}"
    kept = [*old_names, *numbers(earlier)] or [word for word in earlier.split() if word not in STOPWORDS][-2:]
    return " ".join((*content, *kept))


def _swapped(text: str, old: str, new: str) -> str:
    head, _, tail = text.rpartition(old)
    return f"{head}{new}{tail}"


def _shortened(text: str, most: int) -> str:
    """Content words and the small words between them, at most `most`; names, quotes and numbers go last."""
    quoted = {word for quote in quotes(text) for word in quote.split()}
    words = [word for word in tokens(re.sub(r"['’]s\b", "", text)) if word[0].isalnum()]
    kept = [word for word in words if word in quoted or _is_name(word) or word.lower() not in _DROPPED]
    while kept and kept[0].lower() in _PREPOSITIONS:
        kept.pop(0)
    while kept and kept[-1].lower() in _PREPOSITIONS:
        kept.pop()
    kept = kept or words
    kept = [word for place, word in enumerate(kept) if not place or word.lower() != kept[place - 1].lower()]
    if len(kept) > most:
        kept = [word for word in kept if word in quoted or word.lower() not in STOPWORDS]
    if len(kept) > most:
        held = {word for thing in (*names(f"x {text}"), *numbers(text)) for word in thing.split()} | quoted
        spare = len(kept) - most
        for place in range(len(kept) - 1, -1, -1):
            if spare and kept[place] not in held:
                del kept[place]
                spare -= 1
    return " ".join(kept[:most])


def _is_name(word: str) -> bool:
    return word[0].isupper() and word.lower() not in STOPWORDS and word.lower() not in _DROPPED
