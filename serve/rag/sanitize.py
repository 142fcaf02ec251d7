"""Foreign text made harmless before it comes near a prompt.

A source fills one line of the prompt and is only ever text: no line break, no invisible or
direction-changing character, no look-alike of a template's headers, no citation number of its own, and
no sentence that gives the model orders.
"""

import re
import unicodedata

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
_CITATION = re.compile(r"[\[［【]\s*(\d{1,3}(?:\s*[,;-]\s*\d{1,3})*)\s*[\]］】]")

_TARGET = (
    r"(?:instructions?|prompts?|rules?|guidelines?|directions?|directives?|messages?|conversation|commands?"
    r"|context|orders|training|programming|safety|restrictions?|sources?)"
)
_ORDERS = re.compile(
    "|".join(
        (
            rf"\b(?:ignore|disregard|forget|override|overrule|bypass|skip|discard|neglect|drop)\b[^.!?]{{0,60}}\b"
            rf"(?:above|previous|prior|earlier|preceding|before|foregoing|your|system|all|any|other|everything)\b"
            rf"(?:[^.!?]{{0,40}}\b{_TARGET}\b)?",
            rf"\b(?:do not|don't|never|stop)\b[^.!?]{{0,20}}\b(?:follow|obey|listen|heed"
            rf"|comply)[^.!?]{{0,50}}\b{_TARGET}\b",
            r"\byou are (?:now|no longer|actually|henceforth) (?:an?|the|in|my|our|bound|free|dan|(?-i:[A-Z]\w+))\b",
            r"\bfrom now on\b[^.!?]{0,40}\b(?:you|respond|answer|reply|act)\b",
            r"\b(?:pretend|act|behave|roleplay|role-play)\b[^.!?]{0,30}\b(?:as if|as an?|as though|to be|that you)\b",
            r"\b(?:new|updated|additional|secret|hidden|real|important|urgent) (?:system )?"
            r"(?:instructions?|prompts?|directives?|orders?)\b",
            r"\b(?:reveal|repeat|print|output|show|leak|expose|display|disclose|send|tell me|summari[sz]e)\b"
            r"[^.!?]{0,40}\b(?:(?:system|hidden|initial|secret|your|original) (?:prompt|instructions?|message|rules)"
            r"|(?:password|api key|credentials?|secrets?)\b)",
            r"\b(?:system|developer|admin(?:istrator)?|debug|god|jailbreak|dan)[ -](?:mode|override|prompt"
            r"|message)\b",
            r"\b(?:respond|reply|answer|say|output|write)\b[^.!?]{0,25}\b(?:only|exactly|with the (?:word|phrase"
            r"|sentence|text|following)|nothing but|with nothing)\b",
            r"\b(?:as|dear|attention|note to|hey|hello)[, ]+(?:an? |the |any |all )?(?:ai|llms?|language models?"
            r"|assistants?|chatbots?|gpt)\b",
            r"\b(?:ai|llms?|language models?|assistants?|chatbots?|gpt)\b[^.!?]{0,30}\b(?:must|should|shall|have to"
            r"|need to"
            r"|are required|is required|are instructed|is instructed)\b",
            r"\b(?:end|begin|start) of (?:the )?(?:system )?(?:prompt|instructions?|context|document|sources?"
            r"|input)\b",
            r"\byour (?:new |only |real |true )?(?:task|job|goal|instruction|purpose|role|mission) (?:is|now)\b",
            r"\bthe (?:user|human) (?:has )?(?:wants|asked|asks|requested|authori[sz]ed)\b[^.!?]{0,40}\byou\b",
        )
    ),
    re.I,
)
# Markers inside markers that are taken apart one by one; deeper ones lose the characters that they are made of.
ROUNDS = 8
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|\s*[|•·]\s+|\s{2,}")


def clean(text: str) -> str:
    """One line of harmless text: NFC, visible characters only, no headers, no citation numbers."""
    text = visible(text)
    for _ in range(ROUNDS):  # removing one marker may bring the halves of another together
        shorter = _HEADER.sub(" ", _CONTROL.sub(" ", text))
        if shorter == text:
            break
        text = shorter
    else:  # nobody nests markers so deep without intent
        text = re.sub(r"[<>|#\[\]]", "", text)
    text = _CITATION.sub(r"(\1)", text)
    text = re.sub(r"#{2,}|`{3,}|={3,}|-{3,}|_{3,}|\*{2,}", " ", text)
    text = _ROLE.sub("", " ".join(text.split()))
    return text.strip()


def visible(text: str) -> str:
    """NFC with invisible, control and direction-changing characters dropped; any white space is a space."""
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if character.isspace():
            kept.append(" ")
        elif unicodedata.category(character) in _DROPPED_CATEGORIES or ord(character) in _INVISIBLE_EXTRA:
            continue
        else:
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def gives_orders(sentence: str) -> bool:
    """Whether a sentence addresses the model instead of telling the reader something.

    Look-alike letters (full-width, mathematical, Cyrillic or Greek in Latin words, accents) are folded first.
    """
    return _ORDERS.search(_fold(sentence)) is not None


def neutralise(text: str) -> str:
    """`clean` text without the sentences that give orders."""
    text = visible(text)
    parts = [part for part in _SENTENCE_END.split(text.replace("###", ". ###")) if part]
    kept = [part for part in parts if not gives_orders(part)]
    joined = clean(" ".join(kept)) if len(kept) < len(parts) else clean(text)
    return "" if gives_orders(joined) else joined


# Cyrillic, Greek and Armenian letters and digits that pass for Latin ones, next to what they pass for.
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһӏԛԝոսАЕОРСУХІЈЅВНКМТοανιρτυκεΟΑΝΙΡΤΥΚΕ0134@$ı",
    "aeopcyxijsdhlqwnuAEOPCYXIJSBHKMToaviptukeOANIPTYKEoieaasi",
)


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text)
    folded = "".join(character for character in folded if not unicodedata.combining(character))
    words = [word.translate(_LOOK_ALIKES) if any(c.isalpha() for c in word) else word for word in folded.split(" ")]
    joined = " ".join(words)
    # "i g n o r e" and "i.g.n.o.r.e": single letters in a row are read as one word.
    return re.sub(r"\b(?:\w[ .\-_*]){3,}\w\b", lambda found: re.sub(r"[ .\-_*]", "", found.group()), joined)
