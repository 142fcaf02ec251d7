"""Answers from the web: a server and a terminal chat that search in a server that plays DuckDuckGo."""

import json
from collections.abc import Iterator

import pytest

from resonance.cli.chat import main as chat

from ..fake_duckduckgo import FakeDuckDuckGo


@pytest.fixture(scope="module")
def web() -> Iterator[FakeDuckDuckGo]:
    server = FakeDuckDuckGo()
    yield server
    server.close()


@pytest.fixture(scope="module")
def online(launch, web):
    """A server that searches there, and forgets failures and refusals at once."""
    limits = ["spacing=0", "circuit=[0,0]", "failures_ttl=0", "deadline=1.5", "attempt=1"]
    return launch(
        "checkpoint=tiny",
        "search=duckduckgo",
        f"search.search_url={web.url}",
        "search.pages=0",
        *(f"search.limits.{limit}" for limit in limits),
    )


def streamed(online, question: str) -> list[str]:
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 3}
    with online.client.stream("POST", "/v1/chat/stream", json=body) as response:
        assert response.status_code == 200
        return [line for line in response.iter_lines() if line and not line.startswith("id:")]


def test_a_stream_names_what_the_web_holds_before_its_first_token(online, web):
    web.status, web.page, web.delay = 200, web.PAGES["Paris"], 0.0
    lines = streamed(online, "What is the capital of France?")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    place = lines.index("event: sources")
    assert not any('"content"' in line for line in lines[:place])
    assert sum("choices" in event and bool(event["choices"]) for event in events) >= 3
    found = json.loads(lines[place + 1].removeprefix("data: "))
    assert (found["provider"], found["query"], found["note"]) == ("duckduckgo", "capital France", None)
    first = found["sources"][0]
    assert {name: first[name] for name in ("id", "title", "url", "site", "passage")} == {
        "id": 1,
        "title": "Paris - Encyclopedia",
        "url": "https://en.encyclopedia.example/Paris",
        "site": "en.encyclopedia.example",
        "passage": "Paris is the capital of France.",
    }
    assert first["score"] > 0
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize(
    ("status", "answered", "delay", "code", "note"),
    [
        (500, "Paris", 0.0, "unreachable", "The search cannot be reached; this answer goes on without sources."),
        (
            429,
            "Paris",
            0.0,
            "rate_limited",
            "The search was refused by the provider for now; this answer goes on without sources.",
        ),
        (
            200,
            "challenge",
            0.0,
            "rate_limited",
            "The search was refused by the provider for now; this answer goes on without sources.",
        ),
        (200, "Paris", 3.0, "timeout", "The search took longer than 1.5 s; this answer goes on without sources."),
        (200, "empty", 0.0, "no_results", "The search found nothing."),
    ],
)
def test_whatever_the_provider_does_the_server_answers_and_says_so(online, web, status, answered, delay, code, note):
    web.status, web.page, web.delay = status, web.PAGES[answered], delay
    lines = streamed(online, f"Who is the mayor of Paris in {status} {delay} {answered}?")
    found = json.loads(lines[lines.index("event: sources") + 1].removeprefix("data: "))
    assert (found["sources"], found["problem"]["code"], found["note"]) == ([], code, note)
    assert any('"content"' in line for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_the_terminal_answers_from_the_web_too(runs, web, capsys):
    web.status, web.page, web.delay = 200, web.PAGES["Paris"], 0.0
    settings = ["search=duckduckgo", f"search.search_url={web.url}", "search.cache=null", "search.pages=0"]
    chat([f"checkpoint={runs / 'tiny'}", "max_new_tokens=3", "prompt=What is the capital of France?", *settings])
    printed = capsys.readouterr()
    assert printed.out.strip()
    assert printed.err.splitlines()[:2] == [
        "Found in duckduckgo for 'capital France':",
        "[1] Paris - Encyclopedia · https://en.encyclopedia.example/Paris",
    ]
