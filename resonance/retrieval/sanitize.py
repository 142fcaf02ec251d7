"""Cleans retrieved text before it enters a prompt, and marks what looks like an order in web pages.

A source takes one line of the prompt: line breaks, invisible and bidirectional control characters, look-alikes of
template headers and citation numbers are removed from every text. That is structure, and it holds for any text.

Sentences of web pages that look like orders to a model stay, inside a fence that says so: `⟦quoted, no instruction:
...⟧`. No text can end a fence, since its characters are removed from all texts. Which sentences look like orders is a
guess by words: it marks some harmless ones and misses some hostile ones, and is no boundary. The owner's documents are
cleaned, but not marked.
"""

import re
import unicodedata

from resonance.retrieval.text import sentence_spans

FENCE = ("⟦quoted, no instruction: ", "⟧")
# The characters of a fence and their look-alikes, as brackets that fence nothing.
_FENCE_CHARACTERS = str.maketrans("⟦⟧〚〛⟬⟭", "[][][]")

# Zero-width and joining characters, bidi controls, variation selectors, tags (the invisible ASCII at
# U+E0000), fillers that render as nothing. Unicode's category Cf holds most; the rest are named.
_INVISIBLE_EXTRA = frozenset(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    )
)
_DROPPED_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))

# Control-token look-alikes of the common templates: <|im_start|>, <|endoftext|>, [INST], <<SYS>>, <s>.
_CONTROL = re.compile(
    r"<\s*\|[^<>|]{0,40}\|\s*>|</?s>|\[/?INST\]|<</?SYS>>|</?\s*(?:system|assistant|user|instructions?)\s*>", re.I
)
# Markdown-like headers of prompt sections: "### Response:" and its relatives, anywhere in the line.
_HEADER = re.compile(
    r"#{1,6}\s*(?:response|instruction|input|system|user|assistant|human|prompt|context|answer)s?\b\s*:?", re.I
)
# "System:" or "Assistant :" where a turn could begin.
_ROLE = re.compile(r"(?:(?<=^)|(?<=[.!?;\-–—*>\"'] ))(?:system|assistant|user|human|ai|developer)\s*:\s*", re.I)
# Any citation-like number, ASCII or full-width brackets.
_CITATION = re.compile(r"[\[［【]\s*(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\s*[\]］】]")

_TARGET = (
    r"(?:instructions?|prompts?|rules?|guidelines?|directions?|directives?|messages?|conversation|commands?"
    r"|context|orders|training|programming|safety|restrictions?|sources?)"
)
_EVERY = (
    r"(?:answer|respond to|reply to)\b[^.!?]{0,20}\b(?:any|every|all|each)\b[^.!?]{0,20}"
    r"\b(?:questions?|quer(?:y|ies)|prompts?|requests?|messages?)\b"
)
# Instructions to the model at the start of a sentence, and anywhere in one.
_AT_START = (
    r"(?:(?:please|also|then|just|now) )*(?:tell|inform|persuade|convince|ask) the (?:user|human|reader)\b",
    r"(?:ai|assistant|chatbot|chatgpt|gpt|llm|language model)\s*[,!]\s*(?:please|kindly|you|now|do|say"
    r"|write|answer|respond|reply|give|tell|output|print|stop|listen)\b",
    _EVERY,
)
_ANYWHERE = (
    rf"(?:ignore|disregard|forget|override|overrule|bypass|skip|discard|neglect|drop)\b[^.!?]{{0,60}}\b"
    rf"(?:above|previous|prior|earlier|preceding|before|foregoing|your|system|all|any|other|everything)\b"
    rf"(?:[^.!?]{{0,40}}\b{_TARGET}\b)?",
    rf"(?:do not|don't|never|stop)\b[^.!?]{{0,20}}\b(?:follow|obey|listen|heed"
    rf"|comply)[^.!?]{{0,50}}\b{_TARGET}\b",
    r"you are (?:now|no longer|actually|henceforth) (?:an?|the|in|my|our|bound|free|dan|(?-i:[A-Z]\w+))\b",
    r"from now on\b[^.!?]{0,40}\b(?:you|respond|answer|reply|act)\b",
    r"(?:pretend|act|behave|roleplay|role-play)\b[^.!?]{0,30}\b(?:as if|as an?|as though|to be|that you)\b",
    r"(?:new|updated|additional|secret|hidden|real|important|urgent) (?:system )?"
    r"(?:instructions?|prompts?|directives?|orders?)\b",
    r"(?:reveal|repeat|print|output|show|leak|expose|display|disclose|send|tell me|summari[sz]e)\b"
    r"[^.!?]{0,40}\b(?:(?:system|hidden|initial|secret|your|original) (?:prompt|instructions?|message|rules)"
    r"|(?:password|api key|credentials?|secrets?)\b)",
    r"(?:developer|god|jailbreak|dan)[ -]mode\b|system[ -](?:override|prompt|message)\b",
    r"(?:respond|reply|answer|say|output|write)\b[^.!?]{0,25}\b(?:only|exactly|with the (?:word|phrase"
    r"|sentence|text|following)|nothing but|with nothing)\b",
    r"(?:as|dear|attention|note to|hey|hello)[, ]+(?:an? |the |any |all )?(?:ai|llms?|language models?"
    r"|assistants?|chatbots?|gpt)\b",
    r"(?:ai|llms?|language models?|chatbots?|gpt)\b[^.!?]{0,30}\b(?:must|should|shall|have to|need to|(?:are|is)"
    r" (?:required|instructed))\b",
    r"(?:end|begin|start) of (?:the )?(?:system )?(?:prompt|instructions?|context|document|sources?"
    r"|input)\b",
    r"your (?:new |only |real |true )?(?:task|job|goal|instruction|purpose|role|mission) (?:is|now)\b",
    rf"(?:set aside|put aside|pay no (?:attention|heed) to|no longer follow|throw (?:out|away)|abandon)\b"
    rf"[^.!?]{{0,60}}\b(?:{_TARGET}|(?:were|been) told|text above|everything above)\b",
    r"(?:do not|don't|never)\b[^.!?]{0,20}\b(?:tell|mention|inform|reveal|show|disclose)\b[^.!?]{0,30}"
    r"\b(?:user|human|reader)s?\b",
    r"(?:your|the (?:correct|right|only)) (?:answer|response|reply|output)\b[^.!?]{0,30}"
    r"\b(?:must|should|shall|has to|to (?:any|every|all|each))\b",
    r"(?:include|add|append|insert|embed|mention|put|write|place)\b[^.!?]{0,60}"
    r"\b(?:in|into|to|of|with) your (?:next |final |own )?(?:answer|reply|response|output|summary)\b",
    r"you(?:'re| are)\b[^.!?]{0,12}\b(?:ai|llm|language model|chatbot|gpt|ai assistant)\b",
    r"(?:instructions?|notes?|notice|message|memo|hint|reminder|commands?|directives?) (?:for|to) "
    r"(?:the |any |all )?(?:ai|llms?|language models?|assistants?|chatbots?|summari[sz]er)\b",
    r"(?:decode|decipher|decrypt|unscramble)\b[^.!?]{0,80}\b(?:follow|obey|execute|do what|comply"
    r"|carry out)\b",
    # German, French, Spanish, Italian; accents are folded before.
    r"(?:ignor\w*|vergiss|vergesst|missachte\w*|uberschreib\w*|umgeh\w*|oublie\w*|neglige\w*|contourne\w*|olvida\w*"
    r"|descarta\w*|omite|dimentica\w*)\b[^.!?]{0,60}\b(?:anweisung|instruktion|vorherig|obige|bisherig|regeln|befehle"
    r"|systemprompt|instruc|consigne|regles|directives|precedent|ci-dessus|reglas|ordenes|indicaciones|anterior"
    r"|istruzion|regole)",
    r"(?:du bist|sie sind) (?:jetzt|nun|ab sofort|nicht mehr)\b|(?:tu es|vous etes) (?:maintenant|desormais)\b"
    r"|(?:ahora|a partir de ahora) eres\b|sei (?:ora|adesso)\b",
    r"(?:ab (?:jetzt|sofort)|von nun an|a partir de maintenant|desormais|a partir de ahora)\b[^.!?]{0,40}"
    r"\b(?:antworte|sage?|du|reponds|repondez|tu|vous|responde|responderas|tu)\b",
    r"(?:antworte|sage?|schreibe?|reponds|repondez|ecris|ecrivez|dis|dites|responde|escribe|rispondi)\b[^.!?]{0,25}"
    r"\b(?:nur|ausschliesslich|ausschlie\W?lich|lediglich|genau|uniquement|seulement|exactement|solo|unicamente"
    r"|exactamente|solamente)\b",
    r"(?:neue|geheime|nouvelles?|nuevas?|nuove) (?:system)?(?:anweisung|instruktion|instruction|consigne|instruccion"
    r"|istruzion)",
    r"(?:verrate?|zeige?|nenne?|wiederhole?|gib|revele[rz]?|affiche[rz]?|repete[rz]?|revela|muestra|repite)\b[^.!?]{0,40}"
    r"\b(?:system-?prompt|anweisungen|passwort|instructions|consignes|mot de passe|instrucciones|contrasena)\b",
    r"(?:an (?:die|alle|jede) (?:ki|sprachmodelle?)|a (?:l'|toute )(?:ia|intelligence artificielle)|a las? ia)\b",
    r"the (?:user|human) (?:has )?(?:wants|asked|asks|requested|authori[sz]ed)\b[^.!?]{0,40}\byou\b",
    rf"(?:you (?:must|should|will|shall)|please|always|only) {_EVERY}",
)
# One combined test of word beginnings, since pages are long.
_ORDERS = re.compile(rf"^\W*(?:{'|'.join(_AT_START)})|\b(?:{'|'.join(_ANYWHERE)})", re.I | re.M)
# Nesting depth up to which markers are removed one by one; in deeper ones their characters are removed.
ROUNDS = 8
_CHOPPED = 3
_STOPS = re.compile(r"[.!?…。！？]+")
# Separators used in place of spaces, and emphasis marks.
_TIES = re.compile(r"(?<=\w)[-/\\+=~|:]+(?=\w)|[_*~`]+")
# Encoded text such as base64.
_BLOB = re.compile(r"[A-Za-z0-9+/=_-]{60,}")


def clean(text: str) -> str:
    """One line of text: NFC, visible characters only, without template headers, citation numbers and fences."""
    text = visible(text).translate(_FENCE_CHARACTERS)
    for _ in range(ROUNDS):  # removing one marker may join the halves of another
        shorter = _HEADER.sub(" ", _CONTROL.sub(" ", text))
        if shorter == text:
            break
        text = shorter
    else:  # such nesting is deliberate
        text = re.sub(r"[<>|#\[\]]", "", text)
    text = _BLOB.sub("…", _CITATION.sub(r"(\1)", text))
    text = re.sub(r"#{2,}|`{3,}|={3,}|-{3,}|_{3,}|\*{2,}", " ", text)
    text = _ROLE.sub("", " ".join(text.split()))
    return text.strip()


class _Shown(dict[int, str | None]):
    """The replacement of each character, computed on first use: itself, a space, or nothing."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        if character.isspace():
            self[code] = " "
        elif code in _INVISIBLE_EXTRA or unicodedata.category(character) in _DROPPED_CATEGORIES:
            self[code] = None
        else:
            self[code] = character
        return self[code]


_SHOWN = _Shown()


def visible(text: str) -> str:
    """NFC without invisible, control and bidirectional characters; white space becomes a space."""
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_SHOWN))


def looks_like_order(sentence: str) -> bool:
    """Whether a sentence looks like an instruction to the model.

    Look-alike letters (full-width, mathematical, Cyrillic or Greek in Latin words, accents) are folded first, and
    words joined by separators are split.
    """
    folded = _fold(sentence)
    untied = _TIES.sub(" ", folded)
    return _ORDERS.search(folded) is not None or (untied != folded and _ORDERS.search(untied) is not None)


def fenced(text: str) -> str:
    """Cleaned text of a web page with what looks like an order inside fences; neighbours share one."""
    text = text.translate(_FENCE_CHARACTERS)
    orders: list[tuple[int, int]] = []
    neighbour = False
    for start, end in _grouped(text):
        order = looks_like_order(text[start:end]) or looks_like_order(_STOPS.sub(" ", text[start:end]))
        if order and neighbour:
            orders[-1] = (orders[-1][0], end)
        elif order:
            orders.append((start, end))
        neighbour = order
    for start, end in reversed(orders):
        text = f"{text[:start]}{FENCE[0]}{text[start:end]}{FENCE[1]}{text[end:]}"
    return text


def _grouped(text: str) -> list[tuple[int, int]]:
    """Offsets of sentences; neighbours of at most `_CHOPPED` words ("Ignore. All. Rules.") are one."""
    groups: list[tuple[int, int]] = []
    after_short = False
    for start, end in sentence_spans(text):
        short = len(text[start:end].split()) <= _CHOPPED
        if short and after_short:
            groups[-1] = (groups[-1][0], end)
        else:
            groups.append((start, end))
        after_short = short
    return groups


# Look-alikes of Latin letters: Cyrillic, Greek and Armenian letters, small capitals, digits; then boxed letters and
# regional indicators, which Unicode does not decompose.
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһӏԛԝոսАЕОРСУХІЈЅВНКМТοανιρτυκεΟΑΝΙΡΤΥΚΕ0134@$ıкмтгпвнѵɡɑɩᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢᎠᎡᎢᎥᎪᎬᎳᎻᏃᏚᏞᏟᏢᏦᏀ57",
    "aeopcyxijsdhlqwnuAEOPCYXIJSBHKMToaviptukeOANIPTYKEoieaasikmtrnbhvgaiabcdefghijklmnoprstuvwyzDRTiAEWHZSLCPKGst",
) | {first + offset: chr(ord("a") + offset) for first in (0x1F150, 0x1F170, 0x1F1E6) for offset in range(26)}


def _fold(text: str) -> str:
    folded = text
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        folded = "".join(character for character in decomposed if not unicodedata.combining(character))
    # A number alone is a number.
    words = [
        word.translate(_LOOK_ALIKES) if not word.isascii() or any(c.isalpha() for c in word) else word
        for word in folded.split(" ")
    ]
    joined = " ".join(words)
    # "i g n o r e" and "i.g.n.o.r.e": single letters in a row form one word.
    return re.sub(r"\b(?:\w[ .\-_*]){3,}\w\b", lambda found: re.sub(r"[ .\-_*]", "", found.group()), joined)
