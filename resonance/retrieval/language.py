"""Words, names, numbers and quotes of a message in any language, by its lexicon."""

import re

from resonance.retrieval.lexicon import Lexicon
from resonance.retrieval.sanitize import visible

_TOKEN = re.compile(r"[^\W_]+(?:[.'’&-][^\W_]+)*\+*#?|\S", re.UNICODE)
# Scripts without spaces: runs of Latin letters and digits, of katakana and ideographs, single other letters.
_UNSPACED_TOKEN = re.compile(r"[A-Za-z0-9.'&-]+|[ァ-ヺー\u3400-\u9fff々]+|[^\W_]|\S")
_HIRAGANA = re.compile(r"[ぁ-ゟ]")
_JOINERS = frozenset(("of", "the", "de", "la", "von", "van", "der", "da", "del", "for", "du", "al", "bin", "di"))
_QUOTED = re.compile(r"[\"“”«»„「『]\s?([^\"“”«»„「」『』]{2,80}?)\s?[\"“”«»“」』]|(?<!\w)['‘]([^'‘’]{2,80})['’](?!\w)")
_NUMBER = re.compile(r"(?<![\w.])\d[\d.,:/-]*\w*(?<![.,:])")


def ends_of(message: str, *, most: int = 4000) -> str:
    """The visible characters of a message; of a very long one its start and end, where the question usually is."""
    if len(message) > most:
        message = f"{message[: most // 2]} … {message[-most // 2 :]}"
    return visible(message)


def plain(message: str, lexicon: Lexicon) -> str:
    """The message on one line, with straight apostrophes, and with spaces between all words of its language."""
    text = " ".join(ends_of(message).replace("’", "'").replace("¿", "").replace("¡", "").split())
    return lexicon.separated(text)


def tokens(text: str, lexicon: Lexicon) -> list[str]:
    """Words and single punctuation marks, in order."""
    return (_TOKEN if lexicon.spaced else _UNSPACED_TOKEN).findall(text)


def quotes(text: str) -> list[str]:
    """Quoted phrases, without the quotation marks."""
    return [(found.group(1) or found.group(2)).strip() for found in _QUOTED.finditer(text)]


def numbers(text: str) -> list[str]:
    """Numbers, years and dates, as written."""
    return _NUMBER.findall(text)


def content(text: str, lexicon: Lexicon) -> list[str]:
    """The content words of a text: no stop words, no question words, no punctuation."""
    words = [word for word in tokens(text, lexicon) if word[0].isalnum()]
    if not lexicon.spaced:
        return [word for word in words if not _HIRAGANA.match(word) and word not in lexicon.stop]
    if not lexicon.stop:  # a language without a list: short words in small letters are mostly function words
        return [word for word in words if len(word) > 3 or not word.islower()]
    return [word for word in words if word.lower() not in lexicon.stop and word.lower() not in lexicon.set("keep")]


def names(text: str, lexicon: Lexicon, *, inside: bool = False, nouns: bool = False) -> list[str]:
    """Distinct names (runs of capitalised words, katakana), in order.

    The first word of a sentence counts unless it commonly starts sentences; `inside`: the text starts within one. In a
    language that capitalises nouns, a single noun behind a determiner is no name, but is returned with `nouns`.
    """
    if not lexicon.spaced:
        return list(dict.fromkeys(re.findall(r"[ァ-ヺー]{2,}|[A-Z][A-Za-z0-9]+", text)))
    found: list[str] = []
    run: list[str] = []
    determiners = frozenset[str]() if nouns else lexicon.set("determiners")
    starts, before = not inside, ""
    words = tokens(text, lexicon)
    for index, word in enumerate(words):
        if _is_capital(word) and not (starts and lexicon.opens(word.split("'")[0])) and not _is_first_person(word):
            if not run and word.lower() not in lexicon.stop:
                before = words[index - 1].lower() if index else ""
            run.append(re.sub(r"['’]s?$", "", word))
            if re.search(r"['’]s?$", word):
                _close(run, found)
        elif (run and word in _JOINERS and before not in determiners and _joined_next(words, index)) or (
            run and word.isdigit() and len(word) <= 3
        ):
            run.append(word)
        else:
            _close(run, found, noun=before in determiners)
        starts = word in '.!?:"“(' or (starts and not word[0].isalnum())
    _close(run, found, noun=before in determiners)
    return list(dict.fromkeys(found))


def _is_first_person(word: str) -> bool:
    return word.split("'", maxsplit=1)[0] == "I" or word == "OK"


def _is_capital(word: str) -> bool:
    return word[0].isupper() or (len(word) > 1 and word[0].islower() and word[1].isupper())


def _joined_next(words: list[str], index: int) -> bool:
    following = words[index + 1 : index + 3]
    if following and _is_capital(following[0]):
        return True
    return len(following) == 2 and following[0] in _JOINERS and _is_capital(following[1])


def _close(run: list[str], found: list[str], *, noun: bool = False) -> None:
    while run and run[-1] in _JOINERS:
        run.pop()
    if run and not (noun and len(run) == 1):
        found.append(" ".join(run))
    run.clear()
