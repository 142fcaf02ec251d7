"""The subjects and values of the facts in notes and sources. Knows nothing of sentences.

Names of towns and people are combined from syllables, so that there are many and a model cannot know them.
"""

from __future__ import annotations

from itertools import product

from data.basics.tables import COLOURS, NAMES, OBJECTS, ROOMS, phrases, words

HOURS = words("six seven eight nine ten eleven noon one two three four five")
PLACES = phrases(
    """library, museum, bank, shop, pool, cafe, theatre, zoo, bakery, pharmacy, cinema, gallery, market, station,
    castle, park, restaurant, hotel, gym, school, town hall, post office, ticket office, garden centre,
    harbour office, book shop, sports hall, boat house, bike shop, toy museum"""
)
THINGS = OBJECTS + phrases(
    """lamp, table, phone, clock, mirror, knife, ladder, umbrella, wallet, camera, guitar, bottle, basket,
    blanket, candle, carpet, sofa, drum, spoon, vase, tent, rope, bucket, suitcase, helmet"""
)
PLACES_OF_THINGS = ROOMS + phrases("cellar, attic, hall, bathroom, shed, tower, bedroom, studio, workshop, barn")
ALL_COLOURS = (*COLOURS, "grey", "orange", "purple", "silver")
MATERIALS = words("wood stone copper glass steel silver leather paper cotton wool brick marble bronze clay rubber gold")
MACHINES = phrases(
    """coffee machine, washing machine, heat pump, router, printer, boiler, fridge, oven, drill, dishwasher,
    vacuum cleaner, water heater, lawn mower, sewing machine, air conditioner, ice maker, hair dryer, copier,
    scanner, generator"""
)
PARTS = words("filter battery seal belt cable fuse lid motor sensor hose pump brush")
EVENTS = phrases(
    """concert, festival, race, meeting, exam, parade, fair, match, auction, wedding, lecture, dance, boat trip,
    guided tour, book sale, chess evening, cooking class, swimming lesson, film night, flea market"""
)
DISHES = words("soup bread cake stew pie salad pudding omelette curry pizza risotto porridge lasagne jam cheese")
ANIMALS = words(
    "goat horse rabbit parrot turtle monkey bear fox owl otter swan donkey camel zebra seal beaver hedgehog"
)
FOODS = words("grass carrots apples nuts fish leaves seeds bread corn berries insects hay rice roots honey beans")
JOBS = words(
    "baker teacher pilot farmer doctor nurse painter cook builder driver dentist lawyer writer singer gardener"
)
FORMS = phrases(
    "tax form, travel form, holiday form, sick note, order form, report, contract, invoice, receipt, timetable"
)
OFFICES = phrases(
    "main office, front desk, help desk, kitchen, workshop, reception, clinic, harbour master, garage, lab"
)

NOUNS = words(
    """harbour lighthouse ferry bridge tower river lake forest valley island beach mountain village square street
    garden farm mill well church temple palace tunnel canal dam road railway airport factory mine quarry
    hospital theatre stadium prison court bank store kitchen engine wheel brake chain saddle sail anchor boat
    ship train tram bus truck plane rocket satellite telescope microscope computer screen keyboard password
    program network server database file folder letter parcel stamp ticket passport licence contract invoice
    salary pension holiday budget tax fine loan price discount teacher pupil lesson exam course degree novel
    poem song opera painting statue photograph film journal newspaper recipe dough oven yeast flour sugar
    butter honey vinegar pepper garlic onion potato tomato carrot cabbage mushroom apple pear cherry plum
    grape olive lemon oak birch pine willow rose tulip fern moss bee wasp beetle spider butterfly whale
    dolphin shark salmon herring crab eagle raven swallow sparrow penguin wolf deer hare squirrel hamster pony
    lamb planet comet moon star storm fog frost flood drought earthquake volcano glacier desert coast tide
    current heart liver lung muscle bone blood fever cough burn wound bandage vaccine tablet doctor clinic
    ambulance"""
)
PREDICATES = tuple(
    f"{done} {by}"
    for done, by in product(
        phrases(
            """was found by, was sold to, was drawn by, was saved by, is looked after by, was named after, was
            paid for by, was described by, was repaired by, belonged to"""
        ),
        NAMES[::2],
    )
) + phrases(
    """is older than the town, is closed in winter, needs very little water, is checked twice a year, was lost in
    the war, comes from the south, grows in the shade, can be seen at night, is kept in a cold room, must be
    signed by hand, was moved to the north, has three doors, is painted every spring, weighs about two tonnes,
    lasts for ten years, is sent by post, runs on electric power, is used by nobody today, stands near the
    river, was closed for good, is free for children, has to be ordered early, costs more in summer, works
    without any noise, is cleaned on Fridays, was changed last year, is shown in the first room, makes a good
    soup, opens only in summer, may not be copied"""
)

FIRST_NAMES = NAMES + words(
    "Clara Simon Nora Felix Ruth Oscar Helen Victor Irene Martin Julia Robert Diana Leo Eva Max"
)
TOWN_HEADS = words("Var Tol Bren Hal Mor Kel Sten Lin Ost Fal Dun Wes Nor Gar Pel Ash Ren Hol Mar Cor")
TOWN_TAILS = words("ness holm ford by stad mouth wick burg dale field ham ton vik mere gate lund")
TOWNS = tuple(head + tail for head, tail in product(TOWN_HEADS, TOWN_TAILS))
NAME_HEADS = words("Ander Berg Cald Dahl Ek Fenn Grim Hask Jarl Krog Lind Moss")
NAME_TAILS = words("sen er ley man strom ov ins sted")
SURNAMES = tuple(head + tail for head, tail in product(NAME_HEADS, NAME_TAILS))
PEOPLE = tuple(f"{first} {last}" for first, last in zip(FIRST_NAMES * 3, SURNAMES, strict=True))


def numbers(first: int, last: int, step: int) -> tuple[str, ...]:
    """The numbers from `first` to at most `last`, as text."""
    return tuple(map(str, range(first, last + 1, step)))


WARRANTIES = numbers(2, 48, 2)
YEARS = numbers(1701, 2019, 7)
