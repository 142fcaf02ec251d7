"""Many conversations at once: in, with what is wrong named by its line, and out, without holding anybody up."""

import json
import threading
import time
import uuid

import httpx
import pytest

JSONL = {"Content-Type": "application/x-ndjson"}


def line(name: str, at: str = "2026-01-01T00:00:00Z") -> str:
    message = {"id": f"{name}-1", "role": "user", "content": f"Words of {name}", "created_at": at}
    return json.dumps({"id": name, "title": name, "created_at": at, "updated_at": at, "messages": [message]})


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_date_outside_the_calendar_is_named_by_its_line_and_nothing_comes_in(server, at):
    name = f"i-{uuid.uuid4().hex[:12]}"
    answer = server.client.post("/v1/conversations.jsonl", content=f"{line(name)}\n{line('x', at)}", headers=JSONL)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"] == (
        "Line 2 is no conversation: a date lies outside the years 1 to 9999 in UTC."
    )
    assert server.client.get(f"/v1/conversations/{name}").status_code == 404


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"])
def test_the_ends_of_the_calendar_come_in_and_out_as_they_were(server, at):
    name = f"i-{uuid.uuid4().hex[:12]}"
    assert server.client.post("/v1/conversations.jsonl", content=line(name, at), headers=JSONL).status_code == 200
    exported = server.client.get("/v1/conversations.jsonl").text.splitlines()
    (mine,) = [json.loads(each) for each in exported if name in each]
    assert (mine["updated_at"], mine["messages"][0]["created_at"]) == (at, at)
    assert server.client.delete(f"/v1/conversations/{name}").status_code == 200


def test_more_lines_than_are_taken_at_once_are_refused_by_number(server):
    answer = server.client.post("/v1/conversations.jsonl", content="{}\n" * 20_001, headers=JSONL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_lines")
    assert "20001 lines" in answer.json()["error"]["message"]


def test_a_large_import_and_its_export_do_not_hold_up_others(server):
    mark = uuid.uuid4().hex[:8]
    names = [f"{mark}-{number}" for number in range(2000)]
    slowest, over = 0.0, threading.Event()

    def look() -> None:
        nonlocal slowest
        with httpx.Client(base_url=server.base, timeout=100) as client:
            while not over.is_set():
                began = time.monotonic()
                assert client.get("/health").status_code == 200
                slowest = max(slowest, time.monotonic() - began)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        body = "\n".join(line(name) for name in names)
        began = time.monotonic()
        answer = server.client.post("/v1/conversations.jsonl", content=body, headers=JSONL)
        assert answer.json() == {"imported": 2000, "skipped": 0}
        exported = [json.loads(each) for each in server.client.get("/v1/conversations.jsonl").text.splitlines()]
        took = time.monotonic() - began
    finally:
        over.set()
        looking.join()
    found = [conversation for conversation in exported if conversation["id"].startswith(mark)]
    assert [conversation["id"] for conversation in found] == sorted(names, reverse=True)
    assert all(conversation["messages"][0]["content"] == f"Words of {conversation['id']}" for conversation in found)
    assert took < 20  # 1 on a machine that does nothing else
    assert slowest < 1  # the slow test measures
    assert server.client.delete("/v1/conversations").status_code == 200


@pytest.mark.slow
@pytest.mark.timing
def test_15000_lines_come_in_and_go_out_within_seconds_while_health_stays_quick(launch):
    server = launch("checkpoint=tiny", "limits.body_bytes=30000000")
    waits: list[float] = []
    over = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=server.base, timeout=100) as client:
            while not over.is_set():
                began = time.monotonic()
                assert client.get("/health").status_code == 200
                waits.append(time.monotonic() - began)
                time.sleep(0.005)

    looking = threading.Thread(target=look)
    looking.start()
    times: list[float] = []
    try:
        body = "\n".join(line(f"c{number}") for number in range(15_000))
        for method, path, content in (
            ("POST", "/v1/conversations.jsonl", body),
            ("GET", "/v1/conversations.jsonl", None),
            ("GET", "/v1/training.jsonl", None),
        ):
            began = time.monotonic()
            assert server.client.request(method, path, content=content, headers=JSONL).status_code == 200
            times.append(time.monotonic() - began)
    finally:
        over.set()
        looking.join()
    assert max(times) < 15, times  # 4 on a machine that does nothing else
    assert sorted(waits)[int(len(waits) * 0.99)] < 0.1
