"""What people say to an assistant around what they mean: fillers, ellipses and bare follow-ups."""

import re

# Said to the assistant and not about the matter; taken off the front as long as one of them stands there.
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
    # These begin names and sentences too ("Great Wall", "No Country"), so a mark must follow.
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
# A last word that has its sense from what was said before: "Can you go inside?", "Is breakfast served, too?"
DANGLING = re.compile(
    r"\b(?:inside|outside|nearby|upstairs|downstairs|too|as well|instead|otherwise|afterwards|either|any ?more"
    r"|(?:before|after) that)\W*$",
    re.I,
)
# "the company", "the long version": kinds of things that stand for one named before, unless more is said of them.
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
# What is said besides: "and compared to Scotland?", "and without eggs?"
ADDED = re.compile(r"^(?:compared|in comparison|relative|versus|vs|with|without|before|after|during|if)\b", re.I)
