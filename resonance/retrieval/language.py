"""Small observations about English that the query and the decision to search share: names, pronouns, fillers."""

import re

from resonance.retrieval.sanitize import visible
from resonance.retrieval.text import STOPWORDS, word_set

# Sentence openers that are capitalised for their place, not because they name something.
_OPENERS = STOPWORDS | word_set(
    """
    add answer apart ask assume calculate check choose clear come compare complete compose compute consider
    continue convert correct count create debug define delete describe design develop does draft draw edit
    estimate evaluate examine explain extend extract fill find fix format generate get give go goodbye good
    google great happy hello help hey hi identify imagine implement improve install keep learn let list look
    make maybe mention name nice okay ok open outline paraphrase perhaps pick plan please point print proofread
    propose prove provide put rank read recommend remove rename rephrase replace reverse review rewrite run say
    search see select send set shorten show simplify solve sort speak spell start state suggest sum summarise
    summarize sure take talk teach tell test thank thanks think translate try turn update use used using wait
    want was well whats whos work write yes yeah yep hmm oh wow right actually anyway however today tomorrow
    yesterday tonight currently recently since many much next last first second another every everyone someone
    something anything nothing one two three latest current new old best worst top price weather news
    """
)
_TOKEN = re.compile(r"[^\W_]+(?:[.'’&-][^\W_]+)*\+*#?|\S", re.UNICODE)
_JOINERS = frozenset(("of", "the", "de", "la", "von", "van", "der", "da", "del", "and", "for", "du", "al", "bin"))
PERSONAL = frozenset(("he", "him", "his", "she", "her", "hers", "himself", "herself"))
REFERRING = PERSONAL | frozenset(
    ("it", "its", "they", "them", "their", "theirs", "this", "that", "these", "those", "there", "itself", "one")
)
_QUOTED = re.compile(r"[\"“”«»„]([^\"“”«»„]{2,80})[\"“”«»„]|(?<!\w)['‘]([^'‘’]{2,80})['’](?!\w)")
_NUMBER = re.compile(r"(?<![\w.])\d[\d.,:/-]*\w*(?<![.,:])")


def ends_of(message: str, *, most: int = 4000) -> str:
    """A message with visible characters only; of a very long one its beginning and its end, where people ask."""
    if len(message) > most:
        message = f"{message[: most // 2]} … {message[-most // 2 :]}"
    return visible(message)


def tokens(text: str) -> list[str]:
    """Words and single marks, in order."""
    return _TOKEN.findall(text)


def quotes(text: str) -> list[str]:
    """What stands in quotation marks, without them."""
    return [(found.group(1) or found.group(2)).strip() for found in _QUOTED.finditer(text)]


def numbers(text: str) -> list[str]:
    """Numbers, years and dates as they are written."""
    return _NUMBER.findall(text)


def names(text: str) -> list[str]:
    """Runs of capitalised words that name something, in order, each once.

    A word at the start of a sentence counts unless it is one that questions and orders begin with.
    """
    found: list[str] = []
    run: list[str] = []
    starts = True
    words = tokens(text)
    for place, word in enumerate(words):
        capital = _is_capital(word) and not (starts and word.lower().split("'")[0] in _OPENERS)
        if capital and word not in ("I", "I'm", "I've", "I'd", "I'll", "OK"):
            run.append(re.sub(r"['’]s?$", "", word))
            if re.search(r"['’]s?$", word):
                _close(run, found)
        elif (run and word in _JOINERS and word != "and" and place + 1 < len(words) and _joined_next(words, place)) or (
            run and word.isdigit() and len(word) <= 3
        ):
            run.append(word)
        else:
            _close(run, found)
        starts = word in '.!?:"“(' or (starts and not word[0].isalnum())
    _close(run, found)
    return list(dict.fromkeys(found))


def _is_capital(word: str) -> bool:
    return word[0].isupper() or (len(word) > 1 and word[0].islower() and word[1].isupper())


def _joined_next(words: list[str], place: int) -> bool:
    following = words[place + 1 : place + 3]
    if _is_capital(following[0]):
        return True
    return len(following) == 2 and following[0] in _JOINERS and _is_capital(following[1])


def _close(run: list[str], found: list[str]) -> None:
    while run and run[-1] in _JOINERS:
        run.pop()
    if run:
        found.append(" ".join(run))
    run.clear()
