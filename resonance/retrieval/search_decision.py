"""Decides whether the newest message calls for a search, and gives the reason.

The first matching rule decides. Messages that the model can handle alone (greetings, rewriting, arithmetic) are not
searched; questions about named or changing things are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from resonance.chat_template import Message
from resonance.retrieval.language import ends_of, names, quotes, tokens
from resonance.retrieval.query_rewriting import depends_on_context
from resonance.retrieval.text import terms

# Characters of small talk, at most; on longer messages the pattern would backtrack too much.
SMALL = 100


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to search, and the reason in words for the user."""

    search: bool
    reason: str


_SMALL_TALK = re.compile(
    r"^\W*(?:(?:hi|hello|hey|hiya|yo|greetings|howdy|good (?:morning|afternoon|evening|night|day)|welcome|bye"
    r"|goodbye|see you|cheers"
    r"|thanks?(?: you)?|thx|ty|ok(?:ay)?|cool|great|nice|awesome|perfect|yes|no|yeah|nope|sure|lol|sorry|please|wow"
    r"|got it|well done"
    r"|good job|i see|that's (?:great|nice|all|it)|never ?mind|how(?:'s| is) it going|how are (?:you"
    r"|things)(?: doing)?(?: today)?|how do you do"
    r"|what's up|sup|nice to meet you|have a (?:nice|good|great) (?:day|one|evening|weekend)"
    r"|there|you|very much|so much|a lot|again|everyone|friend|assistant|bot|for (?:your|the) help|today|my friend"
    r"|and|to you(?: too)?|too)"
    r"\b[\s,.!?:)(-]*)+$",
    re.I,
)
_ABOUT_ASSISTANT = re.compile(
    r"\b(?:who|what) are you\b|\bwhat(?:'s| is) your (?:name|purpose|favou?rite)|\bwhat can you (?:do|help)"
    r"|\bcan you help(?: me)?\W*$"
    r"|\bare you (?:a |an )?(?:human|robot|real|ai|bot|alive|sentient|conscious|gpt|chatgpt|there)|\bwho (?:made"
    r"|created|built|trained) you"
    r"|\bhow old are you|\bwhere (?:are you from|do you live)|\bdo you (?:like|love|feel|sleep|dream"
    r"|have (?:feelings|a name))"
    r"|\btell me (?:a joke|about yourself)|\bhow do you work|\bhow (?:are|do) you feel",
    re.I,
)
_CODE = re.compile(
    r"```|^\s*(?:def|class|import|from \w+ import|function|const|let|var|public|#include|SELECT .* FROM)\b.*[({:;=]"
    r"|\bTraceback \(most recent"
    r"|\b(?:write|create|implement|give me|make|generate|fix|debug|refactor|optimi[sz]e|review|explain|complete"
    r"|show me|need|finish)\b[^.?!]{0,40}"
    r"\b(?:function|script|code|program|class|method|regex|regular expression|sql query|query in sql|unit tests?"
    r"|loop|algorithm|snippet|one-liner"
    r"|html page|css|api endpoint|dockerfile|makefile|bash command)\b"
    r"|\bin (?:python|javascript|typescript|java|c\+\+|c#|rust|go|sql|bash|php|ruby|kotlin|swift|haskell)\b(?=\W*$"
    r"|[^.]*\b(?:write|list|string|loop|array"
    r"|function|sort|reverse)\b)|\bhow (?:do|can|to|would)\b[^.?!]*\b(?:python|javascript|typescript|rust|sql|bash"
    r"|git|regex|java|c\+\+|html|css)\b"
    r"|\b\w+\(\w*\)|(?:Type|Value|Key|Index|Name|Syntax|Attribute|Import)Error\b|\bsegmentation fault\b"
    r"|\bNullPointerException\b",
    re.I | re.S,
)
_SUM = re.compile(
    r"(?<![\w./-])\d[\d.,]*\s*(?:[+*/×÷^%]|[-–−](?=\s)|x(?=\s*\d)|plus|minus|times|divided by|multiplied by"
    r"|to the power of|mod)\s*\(?\d"
    r"|\b(?:\d[\d.,]*|half|a third|a quarter)\s*(?:%|percent) of \d|\bsquare root of\b|\b(?:sum|product|difference"
    r"|average|mean|median|factorial|quotient) of"
    r"(?: the (?:numbers|first))? ?\d|\b(?:add|subtract|multiply|divide)\b[^.?!]{0,20}\d|\bsolve\b[^?!]*[=\dx]"
    r"|\b(?:derivative|integral) of\b"
    r"|\bconvert \d[^?!]* (?:to|into) \w+|\bhow many (?:\w+ )?(?:inches|feet|meters|metres|cm|centimeters|seconds"
    r"|minutes|hours|days|grams|ounces|cups|"
    r"pounds|kilograms|kilometers|miles|millimeters|kilobytes|bytes|bits|cents|months|weeks) (?:are |is |in "
    r"|make )(?:there )?(?:in )?(?:a|an|one|\d)\b"
    r"|\bhow much is \d[\d.,]*\s*(?:[-+*/×÷^%x]|plus|minus|times|percent|divided)",
    re.I,
)
_TEXT_WORK = re.compile(
    r"^\W*(?:(?:please|now|can you|could you|would you|will you|help me(?: to)?|i(?:'d| would)? (?:want|need"
    r"|like)(?: you)? to)\W+)*"
    r"(?:re-?write|re-?phrase|re-?word|paraphrase|proof-?read|translate|correct|edit|polish|shorten|lengthen|expand"
    r"|simplify|format|capitali[sz]e|punctuate"
    r"|reverse|sort|alphabeti[sz]e|spell|rhyme|conjugate|pluralize|classify|categori[sz]e|compose|brainstorm|imagine"
    r"|pretend|continue|complete|finish|fill in"
    r"|fix (?:the|this|my) (?:grammar|spelling|sentence|text|typos?|punctuation)|improve (?:the|this|my|following)"
    r"|(?:summari[sz]e|sum up|condense|outline|extract|explain|list|identify|count|find|underline"
    r"|highlight)\b[^:?]{0,50}"
    r"(?::|\b(?:this|these|following|above|my|sentence|paragraph|passage|text below|the text|given|letters in"
    r"|words in|verbs?|nouns?|adjectives?)\b)"
    r"|(?:turn|make|change|put|convert) (?:this|these|it|the (?:following|sentence|text)|my)\b"
    r"|(?:write|draft|create|generate|give me|make(?: up)?|compose|tell me)(?: me)? (?:\w+ ){0,3}?(?:poem|story"
    r"|haiku|limerick|song|lyrics|essay|email|e-mail|letter|slogan|tagline"
    r"|tweet|caption|title|sentence|paragraph|dialogue|joke|riddle|speech|toast|cover letter|resume|headline"
    r"|metaphor|simile|introduction|riddle|synonyms?|antonyms?"
    r"|rhymes?|greeting|invitation|apology|review|blog post|bedtime story|product description|names? for (?:my"
    r"|a)))\b",
    re.I,
)
_WORD_WORK = re.compile(
    r"\b(?:plural|past tense|opposite|synonyms?|antonyms?|comparative|superlative|present participle|spelling"
    r"|first letter|last letter|rhymes?) (?:form )?(?:of|for|with)\b"
    r"|\bhow (?:do you|to|is) spell\b|\bhow many (?:letters|vowels|words|syllables|consonants)\b"
    r"|\bin alphabetical order\b|\bhow do you say\b"
    r"|\bwhat rhymes with\b|\b(?:is|are) [^?]*\b(?:a noun|a verb|an adjective|grammatical(?:ly)?)\b",
    re.I,
)
_EXPLICIT = re.compile(
    r"\b(?:search (?:for|the (?:web|internet|net)|online|it|duckduckgo)|look(?:ing)? (?:it |this |that |\w+ )?up"
    r"|google|find (?:it |\w+ )?online|on the (?:web|internet)|web ?search"
    r"|check (?:online|the web|the internet)|(?:in|from|according to) (?:the |my |our )?(?:documents?|docs|files?"
    r"|sources?|manual|handbook)"
    r"|with sources|cite (?:your )?sources|duckduckgo)\b",
    re.I,
)
_FRESH = re.compile(
    r"\b(?:latest|newest|today(?:'s)?|tonight|tomorrow|yesterday|this (?:week|weekend|month|year|season|morning"
    r"|summer|winter)|last (?:week|month|night|year|weekend)|next (?:week|month|year|weekend)"
    r"|currently|right now|at the moment|these days|nowadays|as of|up[- ]to[- ]date|recent(?:ly)?|just (?:announced"
    r"|released|happened)|breaking|news|headlines?|so far|still alive|still open"
    r"|weather|forecasts?|temperature in|stock(?:s| price| market)|share price|exchange rate|prices?|cost of"
    r"|how much (?:does|do|is|are|did)|cheapest|interest rates?|inflation rate|unemployment rate"
    r"|what time (?:does|do|is|are|did) (?!it\b)|(?:opens?|clos(?:es?|ed)|closing) (?:at|on|early|late|time)"
    r"|scores? of|standings|who won|who is winning|release date|released|coming out|opening hours|open (?:on|now"
    r"|until|today)|schedule|timetable|traffic|election|who is the (?:current )?"
    r"(?:president|prime minister|ceo|king|queen|pope|mayor|chancellor|head|governor|champion|director|coach|captain"
    r"|owner|minister|richest|world)"
    r"|20[2-9]\d|covid|available (?:in|on|now)|version of|net worth|population of|how many people live"
    r"|how many \w+ (?:does|do|did|has) (?!an?\b|i\b|we\b|you\b|the\b)\w+ (?:have|own|sell|win))\b"
    r"|(?<!electric )(?<!electrical )(?<!direct )(?<!alternating )(?<!ocean )\bcurrent\s+(?!in\b|is\b|flow|through"
    r"|and\b|density)[a-z]",
    re.I,
)
_EVENT = re.compile(
    r"\b(?:born|dies?|died|death|founded|invented|invent|discovered|discover|located|built|wrote|write|written"
    r"|directed|married|composed|painted|assassinated|elected|established|signed|launched"
    r"|happen(?:ed)?|take place|took place|begin|began|start(?:ed)?|end(?:ed)?|won|capital of|founder of|author of"
    r"|inventor of|sank?|landed|independen(?:t|ce)|buried|live[sd]?|come from|play(?:ed|s)?)\b",
    re.I,
)
_WH = re.compile(
    r"\b(?:who|whom|whose|when|where|which|what year|what date|what day|how (?:many|old|tall|big|far|long|deep|high"
    r"|large|fast|heavy|much))(?:'s|'re)?\b",
    re.I,
)
_UNIQUE = re.compile(
    r"^(?:\W*(?:and|so|please|tell me|do you know)\W+)*(?:who|what|which|when|where)(?:'s| is| was| are"
    r"| were)?\b[^?.!]{0,30}"
    r"\b(?:the|is|are|was) (?:next )?((?:first|last|next|\w{2,}est|most \w+|least \w+))\s+\w+",
    re.I,
)
# Attributes of things that need no capital letter.
_FACT = re.compile(
    r"\b(?:what|who|tell me|give me)\b[^?.!]{0,12}\bthe (?:\w+ ){0,2}?(?:capital|currency|gdp|area|size|height|length"
    r"|depth|width|weight|age|speed|temperature|boiling point|melting point|density|radius|diameter|mass|distance|flag"
    r"|anthem|language|religion|time ?zone|dialling code|symptoms|causes|side effects|ingredients|plot|author|founder"
    r"|inventor|owner|lyrics|release date|rules|history)s? (?:of|in|for|from|to)\b",
    re.I,
)
_ABOUT_ONESELF = re.compile(r"^(?:i|i'm|i've|we|we're|my|our)\b[^?]*$", re.I)
_ABOUT = re.compile(
    r"\b(?:recommend|suggestions?|any good|best"
    r"|what(?:'s| is| was| are| were| did| does| happened| do you know)?|tell me (?:more )?about|is|are|was|were"
    r"|does|did|do|has|have|why (?:is|did|was|does))\b",
    re.I,
)
_ASKS = re.compile(
    r"\?\s*$|^\W*(?:(?:please|and|so|but|can you|could you)\W+)*(?:who|what|when|where|which|why|how|is|are|was|were"
    r"|does|do|did|can|could|should|will|has|have|explain|describe"
    r"|tell|list|show|find|give|name|define|compare|summari[sz]e|search|look)\b",
    re.I,
)


_REFUSED = (
    ("about the assistant itself", _ABOUT_ASSISTANT),
    ("about code", _CODE),
    ("a calculation", _SUM),
    ("works on words or text that it already has", _TEXT_WORK),
    ("works on words or text that it already has", _WORD_WORK),
)


def decide(messages: Sequence[Message], *, eager: bool = False) -> Decision:
    """Decide whether to search for the newest user message.

    `eager`, for local documents: search for every question that no rule excludes.
    """
    turns = [message for message in messages if message.role == "user"]
    if not turns or not turns[-1].content.strip():
        return Decision(False, "nothing is asked")
    if turns[-1].context is not None:
        return Decision(False, "the message brings its own text")
    text = " ".join(ends_of(turns[-1].content).replace("’", "'").split())
    if (refused := _excluded(text)) is not None:
        return Decision(False, refused)
    if (reason := _reason_to_search(text)) is not None:
        return Decision(True, reason)
    if len(turns) > 1 and depends_on_context(text):
        return _as_follow_up(text, messages, eager)
    return _by_default(text, eager)


def _by_default(text: str, eager: bool) -> Decision:
    if eager and _ASKS.search(text) and terms(text):
        return Decision(True, "a question that the documents may answer")
    return Decision(False, "nothing in it asks for facts that change or about a named thing")


def _excluded(text: str) -> str | None:
    """The reason not to search, else None."""
    if len(text) <= SMALL and _SMALL_TALK.match(text):
        return "small talk"
    if _EXPLICIT.search(text) and not _CODE.search(text):
        return None
    return next((reason for reason, pattern in _REFUSED if pattern.search(text)), None)


def _reason_to_search(text: str) -> str | None:
    """The reason to search, else None."""
    named = [*quotes(text), *names(text)]
    asks = _WH.search(text) is not None
    reason = None
    if _EXPLICIT.search(text):
        reason = "a search is asked for"
    elif (found := _FRESH.search(text)) and not _ABOUT_ONESELF.match(text):
        reason = f"asks for something that changes ({found.group().strip().lower()})"
    elif asks and named:
        reason = f"asks for a fact about {named[0]}"
    elif asks and _EVENT.search(text) and len(tokens(text)) > 3 and not depends_on_context(text):
        reason = "asks who, when or where something was"
    elif _FACT.search(text) and not depends_on_context(text):
        reason = "asks for a fact that can be looked up"
    elif found := _UNIQUE.search(text):
        reason = f"asks for the one thing that is {found.group(1).lower()}"
    elif named and _ABOUT.search(text) and _ASKS.search(text):
        reason = f"asks about {named[0]}"
    return reason


def _as_follow_up(text: str, messages: Sequence[Message], eager: bool) -> Decision:
    """Decide on a follow-up: search if the message before it did, or if it asks about names in that exchange."""
    newest = max(index for index, message in enumerate(messages) if message.role == "user")
    before = messages[max(0, newest - 12) : newest]
    earlier = decide(before, eager=eager)
    if earlier.search:
        return Decision(True, earlier.reason if earlier.reason.startswith("follows") else f"follows: {earlier.reason}")
    exchange = " ".join(message.content for message in before[-2:])
    if _WH.search(text) and names(exchange):
        return Decision(True, f"asks for a fact about {names(exchange)[0]}")
    if eager and _ASKS.search(text) and earlier.reason != "small talk":
        return Decision(True, "a question that the documents may answer")
    return Decision(False, f"follows a message that needs no search ({earlier.reason})")
