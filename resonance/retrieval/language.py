"""Patterns of English that query rewriting and the search decision share: names, pronouns, fillers, ellipses."""

import re

from resonance.retrieval.sanitize import visible
from resonance.retrieval.text import STOPWORDS, word_set

# Words that are capitalised at the start of a sentence but are not names.
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
    """The visible characters of a message; of a very long one its start and end, where the question usually is."""
    if len(message) > most:
        message = f"{message[: most // 2]} … {message[-most // 2 :]}"
    return visible(message)


def tokens(text: str) -> list[str]:
    """Words and single punctuation marks, in order."""
    return _TOKEN.findall(text)


def quotes(text: str) -> list[str]:
    """Quoted phrases, without the quotation marks."""
    return [(found.group(1) or found.group(2)).strip() for found in _QUOTED.finditer(text)]


def numbers(text: str) -> list[str]:
    """Numbers, years and dates, as written."""
    return _NUMBER.findall(text)


def names(text: str) -> list[str]:
    """Distinct names (runs of capitalised words), in order.

    The first word of a sentence counts unless it commonly starts questions or requests.
    """
    found: list[str] = []
    run: list[str] = []
    starts = True
    words = tokens(text)
    for index, word in enumerate(words):
        capital = _is_capital(word) and not (starts and word.lower().split("'")[0] in _OPENERS)
        if capital and word not in ("I", "I'm", "I've", "I'd", "I'll", "OK"):
            run.append(re.sub(r"['’]s?$", "", word))
            if re.search(r"['’]s?$", word):
                _close(run, found)
        elif (run and word in _JOINERS and word != "and" and index + 1 < len(words) and _joined_next(words, index)) or (
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


def _joined_next(words: list[str], index: int) -> bool:
    following = words[index + 1 : index + 3]
    if _is_capital(following[0]):
        return True
    return len(following) == 2 and following[0] in _JOINERS and _is_capital(following[1])


def _close(run: list[str], found: list[str]) -> None:
    while run and run[-1] in _JOINERS:
        run.pop()
    if run:
        found.append(" ".join(run))
    run.clear()


# Leading fillers addressed to the assistant; removed repeatedly.
LEADING = re.compile(
    r"^(?:"
    r"(?:hi|hello|hey|hiya|yo|greetings|dear|good (?:morning|afternoon|evening|day))(?: there| you| assistant"
    r"| all)?\b"
    r"|please|pls|plz|ok(?:ay)?|so|well|hmm+|um+|uh+|oh|thanks?(?: you)?(?: so much| a lot)?"
    r"|alright|actually|anyway|by the way|btw|just|quick (?:one|question)|question"
    r"|(?:morning|afternoon|evening)(?=\s*[,.!])"
    r"|any chance (?:that )?you (?:might )?(?:know|can tell me|could tell me)"
    r"|i(?:'d| would)? (?:like|want|need) (?:some |any |more )?(?:info|information|details|facts)"
    r" (?:on|about|regarding)"
    r"|one more thing|also|now then"
    r"|now(?= (?:who|what|when|where|why|how|which|tell|something))|(?:something|anything) else(?=\s*[,.:;!?–—-])"
    r"|(?:(?:a |on a )?(?:new|different|another|other) (?:topic|question|subject|note)|change of (?:topic|subject))"
    # These also start names and sentences ("Great Wall", "No Country"), so punctuation must follow.
    r"|(?:great|right|sure|cool|nice|perfect|yes|yeah|no|search)(?=\s*[,.:;!—–-])"
    r"|sorry|excuse me|pardon me|(?:may|might|must|should|shall|can) (?:i|we|one)"
    r"|(?:can|could|would|will) you (?:please |kindly |maybe |perhaps |possibly |quickly )*"
    r"(?:(?:tell|show|give|explain to|remind|help) me(?: (?:about|with|find(?: out)?|understand|know))?|explain"
    r"|describe|find(?: out)?"
    r"|say|check|list|look(?: up| for| into)?|search(?: for| the (?:web|internet) for)?|answer)"
    r"|(?:please )?(?:tell|show|remind) me(?: more| something| everything| all)?(?: about)?"
    r"|give me(?: (?:some|more|any))?(?: (?:information|info|details|facts|background))?(?: (?:about|on|of"
    r"|regarding))?"
    r"|(?:do|did|would) you (?:happen to )?know(?: anything)?(?: about)?(?: (?:if|whether))?"
    r"|(?:(?:do|would) you have )?any (?:idea|clue)(?: (?:about|if|whether))?|help me (?:to )?(?:understand|find"
    r"|learn|with)"
    r"|can i ask(?: you)?(?: something| a question)?|what (?:can|could) you tell me about|what do you know about"
    r"|have you (?:ever )?heard (?:of|about)"
    r"|i(?:'m| am)? ?(?:was |am )?(?:just |also |really )?(?:wondering|curious|interested|asking)(?: (?:about|if"
    r"|whether|in))?"
    r"|i(?:'d| would)? ?(?:really |also |just )?(?:like|love|want|need) (?:you )?(?:to )?(?:know|learn|find(?: out)?"
    r"|understand|hear|ask|tell me"
    r"|see|look up)(?: (?:more|something))?(?: (?:about|if|whether))?"
    r"|i (?:have|got) a(?: quick)? question(?: (?:about|for you|on))?|my question is"
    r"|(?:look up|search (?:for|the (?:web|internet|net) for|online for|on the (?:web|internet) for)|(?-i:google)"
    r"|find out"
    r"|find (?:me )?(?:information|info|something|out) (?:about|on)|check online)"
    r"|explain(?: to me)?|describe|let(?:'s| us) talk about|i (?:think|guess|believe|wonder)(?: (?:about|if"
    r"|whether))?"
    r")\b[\s,.:;!?—–-]*",
    re.I,
)
TRAILING = re.compile(
    r"[\s,.!?;:—–-]*(?:\b(?:please|thanks?(?: you)?(?: so much| a lot| in advance)?|if you (?:can|know|don't mind)"
    r"|for me"
    r"|right|you know|by any chance|exactly|again|do you know|or something|would you|can you tell me|i wonder"
    r"|cheers)\b)?[\s,.!?;:—–-]*$",
    re.I,
)
ELLIPSIS = re.compile(
    r"^(?:(?:and|or|but|then|also|so)\b[\s,:]*)*(?:(?:what|how) about|i mean[t]?|(?:the )?same for)\b[\s,:]*"
    r"|^(?:(?:and|or|but|then|also)\b[\s,:]*)+",
    re.I,
)
BARE = re.compile(
    r"^(?:(?:and |but )?(?:why|when|where|who|how|how (?:many|much|old|long|far|big|tall|so|come|often)"
    r"|which(?: one)?|what else|what then|since when"
    r"|(?:for|since|until|till|by|from|to|with|at) (?:how long|when|where|whom?|what time|which(?: one)?)|how long for"
    r"|why not|really|is that so)|(?:tell me |any |some |say )?more(?: (?:details|info|information|please))?|go on"
    r"|continue|keep going|elaborate"
    r"|details|(?:and |what )?else|more about (?:it|that|this)|are you sure|(?:can you )?(?:explain"
    r"|elaborate)(?: (?:that|this|it|further|more))?)$",
    re.I,
)
# A last word that refers to earlier turns: "Can you go inside?", "Is breakfast served, too?"
DANGLING = re.compile(
    r"\b(?:inside|outside|nearby|upstairs|downstairs|too|as well|instead|otherwise|afterwards|either|any ?more"
    r"|(?:before|after) that)\W*$",
    re.I,
)
# "the company", "the long version": kinds that refer to something named before, unless they are specified.
KIND = re.compile(
    r"\bthe (?:(?!\w+est\b|most\b|first\b|last\b|next\b|new\b)[\w-]+ ){0,2}?(?:company|firm|film|movie|book|novel|song"
    r"|album|band|team|club|city|town|country|island|building|tower|bridge|author|writer|director|artist|painter|singer"
    r"|version|model|edition|device|machine|car|game|series|show|play|war|battle|event)s?\W*"
    r"(?:$|(?:about|based|made|released|located|called|named|still|now|today|die|live|win|cost|last|start|end)\b)",
    re.I,
)
TIME = re.compile(
    r"^(?:(?:for|in|on|the|at) )*(?:today|tomorrow|tonight|yesterday|now|(?:this|next|last) \w+"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|weekends?|winter|summer|spring|autumn)"
    r"(?: (?:morning|afternoon|evening|night))?\W*$",
    re.I,
)
# Additions: "and compared to Scotland?", "and without eggs?"
ADDED = re.compile(r"^(?:compared|in comparison|relative|versus|vs|with|without|before|after|during|if)\b", re.I)
