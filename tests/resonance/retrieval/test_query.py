"""From a conversation to a stand-alone query: a table of labelled conversations, and the score on it."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from resonance.chat_template import Message
from resonance.retrieval.query_rewriting import MAX_WORDS, standalone_query

# (messages, user and assistant in turn; words that must be in the query; words that must not)
CASES = [
    # fillers go
    (["What is the capital of France?"], "capital France", "what is the"),
    (["Hi! Can you please tell me what the capital of France is?"], "capital France", "hi can you please tell me"),
    (["Could you tell me who wrote Hamlet, please?"], "who wrote Hamlet", "could please tell"),
    (["I was wondering when the Titanic sank."], "when Titanic sank", "wondering i"),
    (["Do you know how tall Mount Everest is?"], "how tall Mount Everest", "do you know"),
    (["hey there, so, what's the weather in Oslo today?"], "weather Oslo today", "hey there so"),
    (["I would like to know the price of silver"], "price silver", "would like know"),
    (["Tell me about Ada Lovelace"], "Ada Lovelace", "tell me about"),
    (["please search for vegan restaurants in Lyon"], "vegan restaurants Lyon", "please search"),
    (["Search the web for the rules of curling"], "rules curling", "search web"),
    (["Can you look up the opening hours of the British Museum?"], "opening hours British Museum", "look up can"),
    (["Thanks! One more thing: who painted the Mona Lisa?"], "who painted Mona Lisa", "thanks thing"),
    (["ok, and now tell me what a quasar is"], "quasar", "ok tell me"),
    (["I'm curious about the history of chess"], "history chess", "curious"),
    (["google who is the ceo of nvidia"], "ceo nvidia", "google"),
    (["What can you tell me about photosynthesis?"], "photosynthesis", "tell me you"),
    (["Would you happen to know when Rome was founded?"], "when Rome founded", "would happen know"),
    (["Give me some information about penguins"], "penguins", "give information"),
    (["Explain to me how vaccines work"], "how vaccines work", "explain me"),
    (["who is the president of brazil"], "president brazil", "is the"),
    (["Who invented the telephone? Thanks in advance!"], "invented telephone", "thanks advance"),
    (["Quick question - which planet has the most moons?"], "planet most moons", "quick question"),
    # quotes, numbers and names stay
    (['Who sang "Let It Be" in 1970?'], "Let It Be 1970", ""),
    (["What happened on 9 November 1989 in Berlin?"], "9 November 1989 Berlin", "what"),
    (["How much does the iPhone 15 Pro cost?"], "iPhone 15 Pro cost", "does"),
    (["Is the Boeing 737 MAX safe to fly?"], "Boeing 737 MAX safe", ""),
    (["When did Apollo 11 land on the Moon?"], "when Apollo 11 land Moon", "did"),
    # long messages: the part that asks, with the names of the rest
    (["I moved to Oslo last month and I love it. What is the best museum here?"], "best museum Oslo", "love moved"),
    (
        ["My router is a Fritzbox 7590. It keeps blinking red all the time. How do I reset it?"],
        "how reset Fritzbox 7590",
        "blinking",
    ),
    (
        ["We are planning a trip. There will be four of us and two dogs. Which hotels in Vienna allow dogs?"],
        "hotels Vienna allow dogs",
        "planning trip four",
    ),
    (["I read a book by Ursula K. Le Guin. When was she born?"], "Ursula Guin born when", "read she"),
    # pronouns bring what they stand for
    (
        ["Who wrote Hamlet?", "William Shakespeare wrote Hamlet.", "When was he born?"],
        "when William Shakespeare born",
        "he was",
    ),
    (
        ["Tell me about Marie Curie.", "Marie Curie was a physicist from Warsaw.", "Where did she study?"],
        "where Marie Curie study",
        "she did",
    ),
    (
        ["What is the capital of France?", "The capital of France is Paris.", "How many people live there?"],
        "how many people live",
        "there",
    ),
    (["How tall is the Eiffel Tower?", "It is 330 metres tall.", "Who built it?"], "who built Eiffel Tower", "it"),
    (["Who is the CEO of Apple?", "Tim Cook is the CEO of Apple.", "How old is he?"], "how old Tim Cook", "he"),
    (["What is Python?", "Python is a programming language.", "Who created it?"], "who created Python", "it"),
    (["Who painted the Mona Lisa?", "Leonardo da Vinci.", "Where is it now?"], "where Mona Lisa", "it"),
    (["What is the population of Norway?", "About 5.5 million.", "And its capital?"], "Norway capital", "its and"),
    (
        ["Tell me about the Beatles", "They were a band from Liverpool.", "When did they break up?"],
        "when Beatles break up",
        "they did",
    ),
    (["When was Barack Obama born?", "On 4 August 1961.", "Who is his wife?"], "wife Barack Obama", "his"),
    (["Who is Angela Merkel?", "A German politician.", "What did she study?"], "Angela Merkel study", "she"),
    (
        ["tell me about black holes", "A black hole is a region of space.", "how do they form?"],
        "how black holes form",
        "they",
    ),
    (["how does a heat pump work", "It moves heat.", "how much does it cost"], "heat pump cost", "it does"),
    (
        ["Who won the 1998 World Cup?", "France won.", "Who scored in that final?"],
        "1998 World Cup scored final",
        "that",
    ),
    # ellipses: the earlier question about something else
    (["What is the capital of France?", "Paris.", "And Germany?"], "capital Germany", "France and"),
    (["What is the capital of France?", "Paris.", "What about Spain?"], "capital Spain", "France what about"),
    (["What's the weather in Oslo today?", "Cloudy.", "and in Bergen?"], "weather Bergen today", "Oslo and"),
    (["Who won the World Cup in 1998?", "France.", "And in 2010?"], "won World Cup 2010", "1998"),
    (["what is the capital of france", "Paris.", "and italy?"], "capital italy", "france and"),
    (["How tall is Mount Everest?", "8,849 m.", "How about Mont Blanc?"], "how tall Mont Blanc", "Everest"),
    (["What is the price of gold?", "High.", "and silver?"], "price silver", "gold"),
    (["Who wrote Dracula?", "Bram Stoker.", "and Frankenstein?"], "who wrote Frankenstein", "Dracula"),
    (["What is the population of Japan?", "125 million.", "the area?"], "area Japan", "population"),
    # bare follow-ups: the earlier question again
    (["Tell me about Ada Lovelace.", "A mathematician.", "tell me more"], "Ada Lovelace", "tell more"),
    (["How tall is Mount Everest?", "8,849 m.", "Why?"], "why Mount Everest tall", ""),
    (["Who discovered penicillin?", "Alexander Fleming.", "When?"], "when discovered penicillin", ""),
    (["When did the Titanic sink?", "In 1912.", "Where?"], "where Titanic sink", ""),
    # chains: the name is two turns back
    (
        ["Who wrote Hamlet?", "William Shakespeare.", "When was he born?", "In 1564.", "And where?"],
        "where William Shakespeare born",
        "he",
    ),
    (
        ["What is the capital of France?", "Paris.", "And Germany?", "Berlin.", "And Italy?"],
        "capital Italy",
        "France Germany",
    ),
    (
        ["How tall is the Eiffel Tower?", "330 m.", "Who built it?", "Gustave Eiffel.", "How much does it weigh?"],
        "Eiffel Tower weigh how much",
        "it",
    ),
    # no leaning where there is none
    (["Who wrote Hamlet?", "Shakespeare.", "What is the capital of Peru?"], "capital Peru", "Hamlet Shakespeare"),
    (["What is the capital of France?", "Paris.", "How do vaccines work?"], "how vaccines work", "France Paris"),
    (["Tell me about Oslo.", "It is a city.", "Is it raining in Bergen?"], "raining Bergen", "Oslo"),
    (
        ["Tell me about Oslo.", "It is a city.", "How many moons are there in the solar system?"],
        "how many moons solar system",
        "Oslo",
    ),
    (["hello", "Hello!", "who won the election in France"], "who won election France", "hello"),
    (["Yo, any idea who runs Microsoft these days?"], "who runs Microsoft", "yo idea any"),
    (["I need to find out how many calories are in an avocado"], "how many calories avocado", "need find"),
    (["Can I ask you something? What is the boiling point of ethanol?"], "boiling point ethanol", "ask something"),
    (["What's the difference between a crocodile and an alligator?"], "difference crocodile alligator", "what's"),
    (["Help me understand how blockchains work"], "how blockchains work", "help me"),
    (["whats the fastest train in japan?"], "fastest train japan", "whats"),
    (["Tell me, who was Nikola Tesla?"], "who Nikola Tesla", "tell me"),
    (["My daughter loves Totoro. Who directed that movie?"], "who directed Totoro", "daughter"),
    (["Who is Ada Lovelace?", "A mathematician.", "What was her contribution?"], "Ada Lovelace contribution", "her"),
    (
        ["Who founded SpaceX?", "Elon Musk founded SpaceX in 2002.", "Where did he grow up?"],
        "where Elon Musk grow",
        "he",
    ),
    (
        ["What is the largest lake in Africa?", "Lake Victoria is the largest lake in Africa.", "How deep is it?"],
        "how deep Victoria",
        "it",
    ),
    (
        ["Tell me about the Great Wall of China.", "It is very long.", "When was it built?"],
        "when Great Wall China built",
        "it",
    ),
    (["Which team won the Super Bowl in 2020?", "The Kansas City Chiefs.", "And in 2021?"], "Super Bowl 2021", "2020"),
    (["How far is the Moon?", "384,400 km.", "And the Sun?"], "how far Sun", "Moon"),
    (["What is the currency of Japan?", "The yen.", "And of Thailand?"], "currency Thailand", "Japan"),
    (["who is the king of spain", "Felipe VI.", "how old is he"], "how old Felipe", "he"),
    (["What is insulin?", "A hormone.", "Who discovered it?"], "who discovered insulin", "it"),
    (["When did the Berlin Wall fall?", "In 1989.", "Why did it fall?"], "why Berlin Wall fall", "it"),
    (["Where is Petra?", "In Jordan.", "Can you tell me more about it?"], "Petra", "more it"),
    (["What is the longest river in Europe?", "The Volga.", "and in Asia?"], "longest river Asia", "Europe"),
    # a question of its own behind an "and"; a comparison, a time, a correction, another noun in place of the last
    (
        ["Who wrote Hamlet?", "Shakespeare.", "And when did the Titanic sink?"],
        "when Titanic sink",
        "Hamlet who wrote and",
    ),
    (["How big is Wales?", "20,779 square kilometres.", "And compared to Scotland?"], "how big Wales Scotland", "and"),
    (["What's the weather in Madrid?", "Sunny.", "And tomorrow?"], "weather Madrid tomorrow", "and"),
    (["Which is the largest desert?", "Antarctica.", "No, I mean the hot ones."], "hot desert", "mean ones no"),
    (["what is the gdp of germany", "A lot.", "and what about per capita?"], "gdp germany per capita", "what about"),
    (["Can I expense a taxi?", "With a receipt.", "What about meals?"], "expense meals", "taxi"),
    # what is named by its kind or place only, and the one that counts something
    (
        ["What's the tallest mountain in Africa?", "Kilimanjaro, in Tanzania.", "How long does it take to climb?"],
        "how long climb Kilimanjaro",
        "it does",
    ),
    (["Tell me about the Model Y.", "It is a car.", "what's the range of the long version"], "range Model Y", "what's"),
    (
        ["Where's the fire extinguisher?", "In the hall.", "Is there one upstairs too?"],
        "fire extinguisher upstairs",
        "",
    ),
    # a question that says nothing by itself
    (["I lost my badge. What should I do?"], "lost badge", ""),
    (["Who directed Parasite?", "Bong Joon-ho.", "What other films has he made?"], "films Bong Joon-ho made", "he"),
    (["Tell me about the Suez Canal.", "A canal.", "Who built it and when?"], "who built when Suez Canal", "it"),
    (["When does the Louvre open?", "At nine.", "Is it closed on Tuesdays?"], "Louvre closed Tuesdays", "it"),
    (["Who sings Rolling in the Deep?", "Adele.", "Does she have any kids?"], "Adele kids", "she"),
    (["Where was Frida Kahlo born?", "In Mexico.", "and when did she die"], "when Frida Kahlo die", "she"),
    (["I've got a leaky tap. Any idea how to fix it?"], "how fix leaky tap", "idea"),
    (["How old is the Colosseum?", "Nearly 2,000 years.", "Cool! Can you go inside?"], "inside Colosseum", "cool"),
    (["when is rent due?", "On the first.", "and if I pay late?"], "rent pay late", ""),
    (["how do i reset my password", "Go to the portal.", "it says my account is locked"], "account locked", ""),
    (["How do I make pancakes?", "Mix flour and eggs.", "and without eggs?"], "pancakes without eggs", ""),
    (["Tell me about Nokia.", "A company from Finland.", "Who runs the company today?"], "who runs Nokia", ""),
    (["What does the Pope do?", "He leads the Church.", "But who elects him?"], "who elects Pope", "him but"),
    (["Where can I park?", "Behind the building.", "For how long?"], "how long park", ""),
    (["Morning! Quick one: what year did the Berlin Wall come down?"], "year Berlin Wall come down", "morning quick"),
    (["I'd like some info on electric cars"], "electric cars", "like some"),
    (["any chance you know who discovered radium?"], "who discovered radium", "any chance know"),
    (["How many calories does a banana have?", "About 105.", "What about an apple?"], "calories apple", "banana"),
    (["Great Wall of China length"], "Great Wall China length", ""),
    (["Search engines history"], "search engines history", ""),
]
# Written after the first rules, and since then in part the cause of later ones: new conversations fare worse, of 20
# that no rule had seen 13 got the query that a person would give.
UNSEEN = [
    (["Could you maybe explain how tides work?"], "how tides work", "could maybe explain"),
    (["I'm visiting Lisbon in May. How warm does it get?"], "how warm Lisbon May", "visiting"),
    (["what are good books by Agatha Christie"], "books Agatha Christie", "what are"),
    (["Where can I see the northern lights?"], "where see northern lights", "can i the"),
    (["Who wrote 1984?", "George Orwell wrote it.", "What else did he write?"], "George Orwell write", "he did"),
    (["What is the tallest mountain in Japan?", "Mount Fuji.", "Can you climb it?"], "Mount Fuji climb", "it"),
    (["Who is Greta Thunberg?", "A Swedish activist.", "How old is she?"], "how old Greta Thunberg", "she"),
    (["What is the capital of Canada?", "Ottawa.", "And Australia's?"], "capital Australia", "Canada"),
    (["When was Google founded?", "In 1998.", "Who founded it?"], "who founded Google", "it"),
    (["How many people live in Oslo?", "About 700,000.", "and Stockholm?"], "how many people live Stockholm", "Oslo"),
    (["Tell me about the Eiffel Tower", "It stands in Paris.", "how high is it"], "how high Eiffel Tower", "it"),
    (
        ["What does DNA stand for?", "Deoxyribonucleic acid.", "Who discovered its structure?"],
        "DNA structure who discovered",
        "its",
    ),
    (["which phone has the best camera right now"], "phone best camera", ""),
    (["Hi, does Ryanair fly to Malta from Bristol?"], "Ryanair fly Malta Bristol", "hi"),
    (["what is the depth of the mariana trench"], "depth mariana trench", "what"),
    (["Who plays the Joker in Joker?", "Joaquin Phoenix.", "How old is he now?"], "how old Joaquin Phoenix", "he"),
    (["Who's the prime minister of Japan?", "Shigeru Ishiba.", "and of Canada?"], "prime minister Canada", "Japan"),
    (
        ["What's the longest bridge in Europe?", "The Crimean Bridge.", "When did they finish building it?"],
        "when finish building Crimean Bridge",
        "they it",
    ),
    (["when did queen elizabeth die"], "when queen elizabeth die", ""),
    (
        ["Where is Machu Picchu?", "In Peru.", "Is it worth visiting in winter?"],
        "Machu Picchu worth visiting winter",
        "it",
    ),
    (["Is the shop open on bank holidays?", "No.", "And on Christmas Eve?"], "shop open Christmas Eve", ""),
    (
        ["Who won the Tour de France in 2022?", "Jonas Vingegaard.", "And the year before?"],
        "won Tour de France 2021",
        "",
    ),
    (
        ["Tell me about Oslo.", "It is the capital of Norway.", "What's the best restaurant there?"],
        "best restaurant Oslo",
        "there",
    ),
    (["who wrote dune", "Frank Herbert.", "then who directed the film?"], "who directed film dune", "then"),
    (["my parcel arrived damaged, who do I talk to?"], "parcel damaged who", ""),
    (["does the gym have showers", "Yes.", "and towels?"], "gym towels", ""),
    (["what's the dress code on Fridays"], "dress code Fridays", ""),
    (["Our printer says 'paper jam'. How do I clear the error?"], "clear error printer paper jam", ""),
]


def conversation(turns: list[str]) -> list[Message]:
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(turns)]


def faults(cases: list[tuple[list[str], str, str]]) -> list[tuple[str, str, list[str], list[str]]]:
    found = []
    for turns, wanted, unwanted in cases:
        query = standalone_query(conversation(turns))
        words = query.lower().split()
        missing = [word for word in wanted.lower().split() if word not in words]
        extra = [word for word in unwanted.lower().split() if word in words]
        if missing or extra or len(words) > MAX_WORDS:
            found.append((" / ".join(turns), query, missing, extra))
    return found


def test_the_table_is_large_and_the_score_is_high():
    wrong = faults(CASES)
    print(f"stand-alone queries: {len(CASES) - len(wrong)} of {len(CASES)} labelled conversations")
    assert len(CASES) >= 60
    assert 1 - len(wrong) / len(CASES) >= 0.95, "\n".join(map(str, wrong))


def test_the_score_on_conversations_that_the_first_rules_were_not_made_from():
    wrong = faults(UNSEEN)
    assert 1 - len(wrong) / len(UNSEEN) >= 0.8, "\n".join(map(str, wrong))


def test_a_conversation_without_a_question_makes_no_query():
    assert standalone_query([]) == ""
    assert standalone_query([Message("system", "You are kind."), Message("assistant", "Hi")]) == ""


def test_invisible_characters_do_not_reach_the_provider():
    assert standalone_query([Message("user", "capital of Fra\u200bnce \u202e")]) == "capital France"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_any_conversation_gives_at_most_twelve_words_on_one_line(turns):
    query = standalone_query(conversation(turns))
    assert len(query.split()) <= MAX_WORDS
    assert "\n" not in query


def test_no_message_of_any_kind_takes_long():
    started = time.process_time()
    for text in (
        "a" * 50_000,
        "please " * 5000,
        "what is " * 5000 + "?",
        "Oslo. " * 5000,
        "so, so, " * 5000,
        "\"' " * 5000,
    ):
        standalone_query(conversation([text, "x", text]))
    assert time.process_time() - started < 4.0
