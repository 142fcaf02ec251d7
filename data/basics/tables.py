"""Word lists and tables of the built-in tasks: facts, word forms, names. Knows nothing of wordings.

Words are common ones; those that a small model must learn whole are single tokens of GPT-2's tokenizer.
"""

from __future__ import annotations

from typing import TypeAlias

Row: TypeAlias = dict[str, str]


def _table(columns: str, text: str) -> tuple[Row, ...]:
    """A table from lines of comma-separated cells and the given column names."""
    names = columns.split()
    rows = [[cell.strip() for cell in line.split(",")] for line in text.strip().splitlines()]
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


def words(text: str) -> tuple[str, ...]:
    """Words separated by white space."""
    return tuple(text.split())


def phrases(text: str) -> tuple[str, ...]:
    """Phrases separated by commas."""
    return tuple(" ".join(part.split()) for part in text.split(","))


COUNTRIES = _table(
    "country city language continent",
    """
    France, Paris, French, Europe
    Germany, Berlin, German, Europe
    Italy, Rome, Italian, Europe
    Spain, Madrid, Spanish, Europe
    Portugal, Lisbon, Portuguese, Europe
    Greece, Athens, Greek, Europe
    Poland, Warsaw, Polish, Europe
    Austria, Vienna, German, Europe
    Hungary, Budapest, Hungarian, Europe
    Sweden, Stockholm, Swedish, Europe
    Norway, Oslo, Norwegian, Europe
    Denmark, Copenhagen, Danish, Europe
    Finland, Helsinki, Finnish, Europe
    Ireland, Dublin, English, Europe
    Ukraine, Kiev, Ukrainian, Europe
    Romania, Bucharest, Romanian, Europe
    Bulgaria, Sofia, Bulgarian, Europe
    Croatia, Zagreb, Croatian, Europe
    Iceland, Reykjavik, Icelandic, Europe
    England, London, English, Europe
    Japan, Tokyo, Japanese, Asia
    China, Beijing, Chinese, Asia
    Vietnam, Hanoi, Vietnamese, Asia
    Thailand, Bangkok, Thai, Asia
    Iran, Tehran, Persian, Asia
    Iraq, Baghdad, Arabic, Asia
    Syria, Damascus, Arabic, Asia
    Egypt, Cairo, Arabic, Africa
    Morocco, Rabat, Arabic, Africa
    Kenya, Nairobi, Swahili, Africa
    Ghana, Accra, English, Africa
    Nigeria, Abuja, English, Africa
    Cuba, Havana, Spanish, North America
    Canada, Ottawa, English, North America
    Argentina, Buenos Aires, Spanish, South America
    Chile, Santiago, Spanish, South America
    Peru, Lima, Spanish, South America
    Colombia, Bogota, Spanish, South America
    Venezuela, Caracas, Spanish, South America
    Australia, Canberra, English, Oceania
    """,
)

YOUNG = _table(
    "animal young",
    """
    dog, puppy
    cat, kitten
    cow, calf
    horse, foal
    sheep, lamb
    goat, kid
    pig, piglet
    hen, chick
    duck, duckling
    goose, gosling
    bear, cub
    deer, fawn
    frog, tadpole
    kangaroo, joey
    butterfly, caterpillar
    """,
)

SOUNDS = _table(
    "animal sound",
    """
    dog, woof
    cat, meow
    cow, moo
    sheep, baa
    pig, oink
    duck, quack
    frog, croak
    lion, roar
    snake, hiss
    bee, buzz
    horse, neigh
    hen, cluck
    owl, hoot
    wolf, howl
    mouse, squeak
    crow, caw
    bird, tweet
    """,
)

HOMES = _table(
    "animal home",
    """
    bee, hive
    bird, nest
    spider, web
    dog, kennel
    horse, stable
    rabbit, burrow
    fox, den
    pig, sty
    fish, water
    camel, desert
    monkey, jungle
    bat, cave
    """,
)

ELEMENTS = _table(
    "element symbol",
    """
    hydrogen, H
    helium, He
    carbon, C
    nitrogen, N
    oxygen, O
    neon, Ne
    sodium, Na
    aluminium, Al
    silicon, Si
    sulfur, S
    chlorine, Cl
    potassium, K
    calcium, Ca
    iron, Fe
    nickel, Ni
    copper, Cu
    zinc, Zn
    silver, Ag
    tin, Sn
    iodine, I
    gold, Au
    mercury, Hg
    lead, Pb
    uranium, U
    """,
)

OPPOSITES = _table(
    "word opposite",
    """
    hot, cold
    big, small
    old, young
    fast, slow
    high, low
    long, short
    hard, soft
    light, dark
    wet, dry
    full, empty
    open, closed
    happy, sad
    rich, poor
    strong, weak
    early, late
    near, far
    up, down
    left, right
    in, out
    day, night
    summer, winter
    good, bad
    true, false
    yes, no
    first, last
    start, finish
    push, pull
    buy, sell
    give, take
    love, hate
    win, lose
    clean, dirty
    easy, difficult
    before, after
    inside, outside
    always, never
    north, south
    east, west
    life, death
    question, answer
    """,
)

PLURALS = _table(
    "one many",
    """
    cat, cats
    dog, dogs
    book, books
    house, houses
    car, cars
    tree, trees
    hand, hands
    door, doors
    river, rivers
    apple, apples
    king, kings
    song, songs
    box, boxes
    fox, foxes
    bus, buses
    church, churches
    watch, watches
    city, cities
    baby, babies
    story, stories
    country, countries
    party, parties
    leaf, leaves
    knife, knives
    wife, wives
    life, lives
    wolf, wolves
    man, men
    woman, women
    child, children
    foot, feet
    tooth, teeth
    goose, geese
    mouse, mice
    person, people
    potato, potatoes
    hero, heroes
    photo, photos
    piano, pianos
    sheep, sheep
    fish, fish
    key, keys
    day, days
    boy, boys
    """,
)

PAST = _table(
    "verb past",
    """
    go, went
    see, saw
    eat, ate
    take, took
    give, gave
    come, came
    run, ran
    sing, sang
    swim, swam
    drink, drank
    write, wrote
    drive, drove
    speak, spoke
    break, broke
    fly, flew
    know, knew
    grow, grew
    draw, drew
    buy, bought
    bring, brought
    think, thought
    find, found
    feel, felt
    keep, kept
    sleep, slept
    leave, left
    lose, lost
    make, made
    say, said
    tell, told
    sell, sold
    send, sent
    build, built
    win, won
    sit, sat
    walk, walked
    talk, talked
    play, played
    work, worked
    look, looked
    open, opened
    help, helped
    call, called
    wait, waited
    """,
)

# Short words whose letters and capitals a small model can learn individually.
SHORT_WORDS = words(
    "cat dog sun car bus cup hat pen box bed red map key sea sky tea egg ice arm leg "
    "fox cow pig bee man boy day bag oil win"
)

KINDS = _table(
    "thing kind",
    """
    dog, animal
    cat, animal
    horse, animal
    lion, animal
    sheep, animal
    apple, fruit
    banana, fruit
    orange, fruit
    lemon, fruit
    cherry, fruit
    red, colour
    blue, colour
    green, colour
    yellow, colour
    purple, colour
    hammer, tool
    saw, tool
    drill, tool
    shovel, tool
    screwdriver, tool
    piano, instrument
    guitar, instrument
    violin, instrument
    drum, instrument
    trumpet, instrument
    chair, piece of furniture
    table, piece of furniture
    bed, piece of furniture
    sofa, piece of furniture
    desk, piece of furniture
    car, vehicle
    bus, vehicle
    train, vehicle
    truck, vehicle
    bicycle, vehicle
    football, sport
    tennis, sport
    golf, sport
    hockey, sport
    rugby, sport
    shirt, piece of clothing
    coat, piece of clothing
    hat, piece of clothing
    dress, piece of clothing
    jacket, piece of clothing
    rose, flower
    lily, flower
    tulip, flower
    daisy, flower
    orchid, flower
    """,
)

THING_COLOURS = _table(
    "thing colour",
    """
    grass, green
    snow, white
    coal, black
    blood, red
    milk, white
    a banana, yellow
    a lemon, yellow
    a tomato, red
    the sky, blue
    chocolate, brown
    a carrot, orange
    a strawberry, red
    a leaf, green
    a crow, black
    a flamingo, pink
    an elephant, grey
    """,
)

JOBS = _table(
    "deed job",
    """
    bakes bread, baker
    teaches children, teacher
    flies a plane, pilot
    grows food, farmer
    puts out fires, firefighter
    heals sick people, doctor
    sells meat, butcher
    repairs teeth, dentist
    writes books, author
    catches fish, fisherman
    cuts hair, barber
    paints pictures, painter
    cooks meals, chef
    builds houses, builder
    heals animals, vet
    plays in films, actor
    """,
)

# Right and wrong predicates of a subject.
PREDICATES = _table(
    "subject right wrong",
    """
    fire, hot, cold
    ice, cold, hot
    snow, white, black
    coal, black, white
    grass, green, pink
    water, wet, dry
    a whale, big, small
    an ant, small, big
    a stone, hard, soft
    a cushion, soft, hard
    the sun, bright, dark
    the night, dark, bright
    a rocket, fast, slow
    a snail, slow, fast
    sugar, sweet, bitter
    a feather, light, heavy
    a truck, heavy, light
    the desert, dry, wet
    a dog, an animal, a tool
    a lion, an animal, a fruit
    a horse, an animal, a flower
    an apple, a fruit, a sport
    a banana, a fruit, an animal
    a hammer, a tool, a vehicle
    a drill, a tool, a flower
    a piano, an instrument, a fruit
    a guitar, an instrument, a tool
    a bus, a vehicle, an animal
    a train, a vehicle, an instrument
    a rose, a flower, a vehicle
    a tulip, a flower, an instrument
    tennis, a sport, a tool
    golf, a sport, a fruit
    """,
)

DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January February March April May June July August September October November December")
NUMBER_WORDS = words("zero one two three four five six seven eight nine ten eleven twelve")

NAMES = words("Anna Tom Mary Peter Lucy David Emma Paul Sarah John Alice Mark James Laura Adam Henry")
ROOMS = words("kitchen garden garage office library school park church")
COLOURS = words("red blue green yellow black white brown pink")
OBJECTS = words("hat chair bag cup coat ball box book key pen")
SORT_WORDS = words("apple ball cat dog egg fish gold hat ice king moon nose oil pen rain sun")
SIZES = words("ant mouse cat dog goat horse elephant whale")  # small to large
SUBJECT_VERBS = _table(
    "subject verb",
    """
    You, are
    We, are
    They, are
    He, is
    She, is
    It, is
    """,
)
ADJECTIVES = words("cold tired happy late ready wrong old new full open")
OPEN_PLACES = words("library museum bank shop pool cafe theatre zoo")
HOURS = words("six seven eight nine ten eleven")
SITES = words("town.example news.example guide.example city.example")
