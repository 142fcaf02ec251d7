"""How the retriever treats a provider: one flight, distance, retries, a circuit, a cache, a deadline."""

import asyncio
import statistics
import time

import pytest
from omegaconf import OmegaConf

from resonance import Tokenizer
from resonance.chat_template import Message
from resonance.hydra_config import compose
from resonance.retrieval import build_retriever
from resonance.retrieval.cache import Cache
from resonance.retrieval.duckduckgo import DuckDuckGo
from resonance.retrieval.retriever import Retriever, SearchOptions
from resonance.retrieval.throttling import ThrottledProvider
from resonance.retrieval.types import Budget, Limits


def retriever(fake, **limits: object):
    times = {"spacing": 0.0, "attempt": 1.0, "deadline": 2.0, **limits}
    built = build_retriever("duckduckgo", search_url=fake.url, limits=times)
    assert built is not None
    return built


async def ask(built, text: str = "What is the capital of France?", **more):
    options = {"budget_tokens": 300, "count_tokens": lambda text: len(text.split())}
    return await built.retrieve([Message("user", text)], **options, **more)


def test_the_chat_gets_numbered_sources(fake):
    found = asyncio.run(ask(retriever(fake)))
    assert found.provider == "duckduckgo"
    assert found.context.splitlines()[0] == (
        "[1] Paris - Encyclopedia (en.encyclopedia.example): Paris is the capital of France."
    )
    assert found.sources[0].id == 1 and found.sources[0].passage == "Paris is the capital of France."
    assert found.note is None


def test_small_talk_sends_nothing(fake):
    found = asyncio.run(ask(retriever(fake), "Hello, how are you?"))
    assert not found.searched and not fake.asked


def test_a_search_can_be_demanded(fake):
    found = asyncio.run(ask(retriever(fake), "Hello, how are you?", always=True))
    assert found.searched and len(fake.asked) == 1


def test_equal_questions_are_asked_once(fake):
    built = retriever(fake)
    asyncio.run(ask(built))
    asyncio.run(ask(built, "what is the capital of France"))
    assert len(fake.asked) == 1


def test_equal_questions_at_the_same_time_share_one_flight(fake):
    fake.delay = 0.2
    built = retriever(fake)

    async def together():
        return await asyncio.gather(*(ask(built) for _ in range(10)))

    assert all(found.sources for found in asyncio.run(together()))
    assert len(fake.asked) == 1


def test_one_caller_who_leaves_does_not_take_the_others_answer(fake):
    fake.delay = 0.3
    built = retriever(fake)

    async def leave_early():
        first = asyncio.create_task(ask(built))
        second = asyncio.create_task(ask(built))
        await asyncio.sleep(0.1)
        first.cancel()
        return await second

    assert asyncio.run(leave_early()).sources
    assert len(fake.asked) == 1


def test_calls_keep_their_distance(fake):
    built = retriever(fake, spacing=0.3)

    async def three():
        await asyncio.gather(*(ask(built, f"Where is {name}?") for name in ("Oslo", "Rome", "Lima")))

    asyncio.run(three())
    gaps = [later - earlier for earlier, later in zip(fake.times, fake.times[1:], strict=False)]
    assert len(gaps) == 2 and min(gaps) > 0.25


def test_a_refusal_closes_the_circuit_for_every_question(fake):
    fake.status = 429
    built = retriever(fake)
    first = asyncio.run(ask(built))
    second = asyncio.run(ask(built, "Where is Oslo?"))
    assert "refused" in (first.note or "") and "refused" in (second.note or "")
    assert first.sources == () and first.context == ""
    assert len(fake.asked) == 1  # neither retried nor asked again


def test_the_circuit_opens_again(fake):
    fake.status = 429
    built = retriever(fake, circuit=(0.1, 0.2))
    asyncio.run(ask(built))
    fake.status = 200
    time.sleep(0.25)
    assert asyncio.run(ask(built, "What is the capital city of France?")).sources


def test_a_timeout_is_retried_once_and_then_the_chat_goes_on(fake):
    fake.delay = 1.0
    built = retriever(fake, attempt=0.3, deadline=3.0)
    found = asyncio.run(ask(built))
    assert found.note == "The search took too long; this answer goes on without sources."
    assert len(fake.asked) == 2


def test_the_deadline_holds_whatever_the_provider_does(fake):
    fake.delay = 1.5
    built = retriever(fake, attempt=1.4, deadline=0.5)

    async def timed():
        started = time.perf_counter()
        found = await ask(built)
        return found, time.perf_counter() - started

    found, seconds = asyncio.run(timed())
    assert found.note == "The search took longer than 0.5 s; this answer goes on without sources."
    assert seconds < 1.2


def test_with_the_provider_down_the_chat_goes_on_and_says_so(fake):
    fake.close()
    found = asyncio.run(ask(retriever(fake)))
    assert found.sources == () and found.note == "The search cannot be reached; this answer goes on without sources."


def test_a_failure_is_remembered_and_not_asked_again_at_once(fake):
    fake.status = 500
    built = retriever(fake)
    asyncio.run(ask(built))
    asyncio.run(ask(built))
    assert len(fake.asked) == 1


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def timed(fake, clock: Clock) -> Retriever:
    """A retriever with the configuration's own times, on a clock of ours."""
    values = OmegaConf.to_container(compose("serve", ["search=duckduckgo"]).search, resolve=True)
    assert isinstance(values, dict)
    limits = Limits(**values["limits"] | {"spacing": 0.0, "circuit": (0.0, 0.0)})
    polite = ThrottledProvider(DuckDuckGo(fake.url, timeout=2.0), Cache(None, clock=clock), limits)
    return Retriever(polite, pages=None, options=SearchOptions(), budget=Budget(), limits=limits)


def test_results_are_good_for_an_hour(fake):
    clock = Clock()
    built = timed(fake, clock)
    for seconds, asked in ((0.0, 1), (3599.0, 1), (3601.0, 2)):
        clock.now = 1_000_000.0 + seconds
        assert asyncio.run(ask(built)).sources
        assert len(fake.asked) == asked


def test_a_failure_is_remembered_for_a_minute(fake):
    clock, fake.status = Clock(), 500
    built = timed(fake, clock)
    for seconds, asked in ((0.0, 1), (59.0, 1), (61.0, 2)):
        clock.now = 1_000_000.0 + seconds
        assert asyncio.run(ask(built)).note == "The search cannot be reached; this answer goes on without sources."
        assert len(fake.asked) == asked


def test_results_of_last_week_are_not_stale_but_gone(fake):
    clock = Clock()
    built = timed(fake, clock)
    asyncio.run(ask(built))
    fake.status = 500
    clock.now += 6 * 86400
    assert asyncio.run(ask(built)).note == "The search cannot be reached; these sources are 6 days old."
    clock.now += 2 * 86400
    assert asyncio.run(ask(built)).sources == ()


def test_the_times_are_those_that_were_decided_on():
    times = compose("serve", ["search=duckduckgo"]).search.limits
    assert (times.deadline, times.attempts, times.spacing, list(times.circuit)) == (4.0, 2, 1.0, [60.0, 120.0])
    assert (times.results_ttl, times.pages_ttl, times.failures_ttl) == (3600.0, 86400.0, 60.0)


def test_a_broken_connection_is_retried_once_and_a_refusal_is_not(fake):
    fake.truncate = True
    asyncio.run(ask(retriever(fake, deadline=4.0)))
    assert len(fake.asked) == 2
    fake.truncate, fake.status = False, 429
    asyncio.run(ask(retriever(fake, deadline=4.0)))
    assert len(fake.asked) == 3


def test_stale_results_are_better_than_none(fake):
    built = retriever(fake, results_ttl=0.0)
    asyncio.run(ask(built))
    fake.status = 500
    found = asyncio.run(ask(built))
    assert found.sources and "these sources are" in (found.note or "")


def test_results_survive_a_restart(fake, tmp_path):
    file = str(tmp_path / "cache" / "search.sqlite")
    for _ in range(2):
        built = build_retriever("duckduckgo", search_url=fake.url, cache=file, limits={"spacing": 0.0})
        assert asyncio.run(ask(built)).sources
    assert len(fake.asked) == 1


def test_a_cache_that_cannot_be_used_costs_no_answer(fake, tmp_path, caplog):
    (tmp_path / "search.sqlite").write_bytes(b"no database at all " * 100)
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "search.sqlite", tmp_path / "file" / "search.sqlite"):
        built = build_retriever("duckduckgo", search_url=fake.url, cache=str(path), limits={"spacing": 0.0})
        assert asyncio.run(ask(built)).sources
    assert sum("cannot be used, so results are kept in memory" in message for message in caplog.messages) == 2


def test_nothing_found_is_said(fake):
    fake.page = fake.PAGES["empty"]
    assert asyncio.run(ask(retriever(fake))).note == "The search found nothing."


def test_no_room_for_sources_is_said_and_nothing_is_sent(fake):
    built = retriever(fake)
    found = asyncio.run(built.retrieve([Message("user", "Who is Ada Lovelace?")], budget_tokens=5, count_tokens=len))
    assert found.note == "The conversation leaves no room for sources." and not fake.asked


class Timed(DuckDuckGo):
    """The provider, which notes how long it took by itself."""

    spent = 0.0

    async def search(self, query: str, k: int, region: str, time_limit: str | None):
        started = time.perf_counter()
        try:
            return await super().search(query, k, region, time_limit)
        finally:
            self.spent = time.perf_counter() - started


@pytest.mark.timing
def test_the_latency_that_we_add_is_under_50_ms(fake, tmp_path):
    words = "The harbour of {0} was enlarged in 1902 for the herring fleet, and {0} has had a pilot since."
    fake.shows(*((f"Harbour {i}", f"https://s{i}.example/", words.format(f"Town{i}") * 3) for i in range(8)))
    provider, limits = Timed(fake.url, timeout=2.0), Limits(spacing=0.0)
    polite = ThrottledProvider(provider, Cache(tmp_path / "search.sqlite"), limits)
    built = Retriever(polite, pages=None, options=SearchOptions(), budget=Budget(), limits=limits)
    tokenizer = Tokenizer.gpt2()

    async def added(question: str) -> float:
        started = time.perf_counter()
        found = await built.retrieve(
            [Message("user", "Hello!"), Message("assistant", "Hi."), Message("user", question)],
            budget_tokens=380,
            count_tokens=lambda text: len(tokenizer.encode(text)),
        )
        assert found.sources
        return time.perf_counter() - started - provider.spent

    async def all_of_them() -> list[float]:
        await added("Where is the harbour of Oslo?")  # the first use loads what is loaded once
        return [await added(f"When was the harbour of Town{i % 8} in region {i} enlarged?") for i in range(60)]

    spent = sorted(1000 * seconds for seconds in asyncio.run(all_of_them()))
    median = statistics.median(spent)
    print(f"added to the provider's own time: median {median:.1f} ms, 95th percentile {spent[56]:.1f} ms, of 60 calls")
    assert len(fake.asked) == 61
    assert median < 50
