"""The requests of the prompts, which constraints are added to, and the words that constraints draw from."""

OPEN = (
    "Describe a walk in the rain.",
    "Explain why people need sleep.",
    "Tell me about the town you would like to live in.",
    "What makes a good neighbour?",
    "Explain to a child how a bicycle works.",
    "Describe the sound of a busy kitchen.",
    "Why do leaves change their colour in autumn?",
    "Give advice to somebody who moves to another country.",
    "What is a library good for?",
    "Describe your favourite season.",
    "Explain how bread is made.",
    "Why is it hard to get up early?",
    "Tell a story about a lost key.",
    "What should one know before buying a used car?",
    "Describe a market on a summer morning.",
    "Explain what a bank does.",
    "How does one learn a new language?",
    "Tell me what the moon looks like.",
    "Why do people keep dogs?",
    "Describe the way from a house to a station.",
    "What is the use of a clock?",
    "Explain why the sea is salty.",
    "Write a message that invites a friend to dinner.",
    "Tell me how to plant a tree.",
    "What does a doctor do all day?",
    "Describe an old photograph.",
    "Explain how a bill becomes a law.",
    "Why is exercise healthy?",
    "Write a short review of a restaurant.",
    "Tell me about a journey by train.",
)
LISTS = (
    "Name things that belong in a first-aid box.",
    "Which tools does a gardener need?",
    "Suggest games for a rainy afternoon.",
    "What can one cook with potatoes?",
    "Name reasons to read books.",
    "Which habits save energy at home?",
    "Suggest presents for a grandmother.",
    "What should a traveller pack for the mountains?",
    "Name animals that live in a forest.",
    "Which jobs are done at night?",
    "Suggest names for a bakery.",
    "What are good topics for small talk?",
)
YES_NO = (
    "Is ice colder than steam?",
    "Can a fish climb a tree?",
    "Is Paris the capital of France?",
    "Does a week have nine days?",
    "Is gold a metal?",
    "Do cows lay eggs?",
    "Is the sun bigger than the moon?",
    "Is a triangle round?",
)
RECORDS = (
    ("Invent a person who works in a hospital.", ("name", "age", "job")),
    ("Describe a book that does not exist.", ("title", "author", "year")),
    ("Make up a product for a kitchen shop.", ("name", "price", "colour")),
    ("Tell me about the city of Rome.", ("city", "country", "river")),
    ("Plan a meal for this evening.", ("starter", "main", "dessert")),
    ("Describe the weather of a day in March.", ("temperature", "wind", "rain")),
)
FOREIGN = (
    ("Greet somebody in Russian.", "CYRILLIC"),
    ("Say good night in Ukrainian.", "CYRILLIC"),
    ("Write the Russian word for water.", "CYRILLIC"),
    ("Greet somebody in Greek.", "GREEK"),
    ("Write the Greek word for sea.", "GREEK"),
    ("Count to three in Russian.", "CYRILLIC"),
)

WANTED = (
    "window",
    "morning",
    "little",
    "water",
    "friend",
    "paper",
    "garden",
    "number",
    "light",
    "year",
    "music",
    "road",
)
UNWANTED = ("very", "good", "people", "always", "because", "thing", "really", "many", "also", "time", "make", "often")
LETTERS = ("z", "q", "x", "j", "k", "v")
BEGINNINGS = ("In short", "To begin with", "Once there was", "Let me tell you", "As far as I can see", "My answer is")
ENDINGS = ("That is all.", "Thanks for asking.", "So it goes.", "Ask me again.", "More to come.", "!", "?")

# Words and forms within reach of the demo's model, which knows few others.
SHORT_WORDS = (
    "cat",
    "dog",
    "sun",
    "car",
    "bus",
    "cup",
    "hat",
    "pen",
    "box",
    "bed",
    "map",
    "key",
    "egg",
    "fox",
    "cow",
    "sky",
)
SORTED_WORDS = (
    "apple",
    "ball",
    "cat",
    "dog",
    "egg",
    "fish",
    "gold",
    "hat",
    "ice",
    "king",
    "moon",
    "nose",
    "oil",
    "rain",
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
CLAIMS = ("ice cold", "fire hot", "snow white", "grass pink", "coal black", "water dry", "fire cold", "snow black")
THINGS = ("hat", "chair", "bag", "cup", "coat", "ball", "box", "book")
QUALITIES = ("old", "new", "big", "small", "clean")
