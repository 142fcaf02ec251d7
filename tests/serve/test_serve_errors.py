"""Whatever is wrong with a request is said in one form, and never by a 422 or a 500."""

import json

import httpx
import pytest

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields):
    return {"messages": HELLO, "max_tokens": 1} | fields


def error_of(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages="Hello"), "messages"),
        (chat(messages=[{"role": "critic", "content": "x"}]), "messages.0.role"),
        (chat(messages=[{"role": "user"}]), "messages.0.content"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages.0.content"),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "messages.0.content.0.type"),
        (chat(messages=[*HELLO, *2 * [{"role": "assistant", "content": "Hi"}]]), "messages"),
        (chat(messages=HELLO * 300), "messages"),
        (chat(messages=[{"role": "user", "content": "a" * 70_000}]), "messages.0.content"),
        (chat(messages=[{"role": "user", "content": "word " * 12000}]), "messages"),
        (chat(temperature="1"), "temperature"),
        (chat(temperature=2.1), "temperature"),
        (chat(temperature=-0.1), "temperature"),
        (chat(top_p=1.5), "top_p"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_tokens=1.5), "max_tokens"),
        (chat(max_tokens=True), "max_tokens"),
        (chat(n=0), "n"),
        (chat(n=5000), "n"),
        (chat(n=2, session_id="s"), "n"),
        (chat(stop=["a", "b", "c", "d", "e"]), "stop"),
        (chat(stop=""), "stop"),
        (chat(seed=2**64), "seed"),
        (chat(presence_penalty=3), "presence_penalty"),
        (chat(logit_bias={"a": 1}), "logit_bias.a"),
        (chat(logit_bias={"60000": 1}), "logit_bias"),
        (chat(logit_bias={"1": 101}), "logit_bias.1"),
        (chat(top_logprobs=3), "top_logprobs"),
        (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
        (chat(session_id="no spaces, please"), "session_id"),
        (chat(parent_id="msg-1"), "parent_id"),
        (chat(search=True), "search"),
        (chat(search={"query": ""}), "search.query"),
        (chat(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name"),
        (chat(tools=[{"type": "function"}]), "tools.0.function"),
        (chat(audio={"voice": "x"}), "audio"),
        (chat(reasoning_effort=5), "reasoning_effort"),
        (chat(temprature=1), "temprature"),
    ],
)
def test_a_request_that_cannot_be_gets_a_400_that_names_the_field(server, body, param):
    error = error_of(server.client.post("/v1/chat/completions", json=body), 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_the_nearest_right_field_is_suggested(server):
    error = error_of(server.client.post("/v1/chat/completions", json=chat(temprature=1)), 400)
    assert "did you mean 'temperature'?" in error["message"]


@pytest.mark.parametrize("name", ["no such", "ä" * 81, "", "\x00", "a" * 100_000])
def test_a_field_whose_name_cannot_be_repeated_is_refused_without_it(server, name):
    error = error_of(server.client.post("/v1/chat/completions", json=chat(**{name: 1})), 400)
    assert (error["param"], error["code"]) == (None, "unknown_field")
    assert len(error["message"]) < 100


@pytest.mark.parametrize("number", ["", "-1", "²", "1.5", "9" * 5000])
def test_an_event_number_that_is_none_is_a_404(server, number):
    name = server.client.post("/v1/chat/stream", json=chat()).text.removeprefix("id: ").partition(":")[0]
    missed = {"Last-Event-ID": f"{name}:{number}".encode()}
    error = error_of(server.client.post("/v1/chat/stream", json=chat(), headers=missed), 404)
    assert error["code"] == "stream_gone"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'"text"', b"null", b'{"messages": NaN}', b"\xff\xfe", b'{"messages": "\\ud800"}'],
)
def test_a_body_that_is_no_request_gets_a_400(server, content):
    headers = {"Content-Type": "application/json"}
    error_of(server.client.post("/v1/chat/completions", content=content, headers=headers), 400)


@pytest.mark.parametrize("content", [b"[1]", b'"text"', b"7"])
def test_a_body_that_is_no_json_object_is_told_what_is_needed(server, content):
    headers = {"Content-Type": "application/json"}
    error = error_of(server.client.post("/v1/chat/completions", content=content, headers=headers), 400)
    assert "Content-Type: application/json" in error["message"]


@pytest.mark.parametrize(
    ("path", "content", "param"),
    [
        (
            "/v1/chat/completions",
            b'{"messages": [{"role": "user", "content": "%s"}], "session_id": "s"}',
            "messages.0.content",
        ),
        (
            "/v1/chat/stream",
            b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "%s"}]}]}',
            "messages.0.content.0.text",
        ),
        ("/v1/completions", b'{"prompt": "%s"}', "prompt"),
        ("/v1/completions", b'{"prompt": ["a", "%s"]}', "prompt.1"),
        ("/v1/completions", b'{"prompt": "a", "stop": ["%s"]}', "stop.0"),
    ],
)
def test_half_a_character_is_no_text(server, path, content, param):
    """A lone surrogate: JSON can say it, UTF-8 cannot."""
    headers = {"Content-Type": "application/json"}
    error = error_of(server.client.post(path, content=content % b"\\ud800", headers=headers), 400)
    assert error["param"] == param


def test_nan_is_no_temperature(server):
    content = json.dumps(chat(temperature=float("nan"))).encode()
    headers = {"Content-Type": "application/json"}
    error = error_of(server.client.post("/v1/chat/completions", content=content, headers=headers), 400)
    assert error["param"] == "temperature"


def test_errors_never_repeat_what_was_sent(server):
    secret = "my-very-secret-words"
    bodies = [chat(temperature=secret), chat(messages=[{"role": secret, "content": secret}]), {"messages": secret}]
    for body in bodies:
        assert secret not in server.client.post("/v1/chat/completions", json=body).text
    assert secret not in server.log.read_text()


def test_unknown_addresses_and_methods_have_the_same_form(server):
    assert error_of(server.client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(server.client.get("/v1/chat/completions"), 405)["code"] == "method_not_allowed"
    assert error_of(server.client.post("/health"), 405)["code"] == "method_not_allowed"
    error_of(server.client.get("/v1/models/nobody"), 404)
    error_of(server.client.get("/v1/conversations/nothing"), 404)
    error_of(server.client.get("/v1/conversations?limit=0"), 400)
    error_of(server.client.get("/v1/conversations?limit=many"), 400)


def test_a_body_over_one_mebibyte_gets_a_413_whether_it_says_its_length_or_not(server):
    big = json.dumps(chat(messages=[{"role": "user", "content": "a" * 1_100_000}])).encode()
    headers = {"Content-Type": "application/json"}
    error_of(server.client.post("/v1/chat/completions", content=big, headers=headers), 413)

    def chunks():
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    error_of(server.client.post("/v1/chat/completions", content=chunks(), headers=headers), 413)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": [50257]}, "prompt"),
        ({"prompt": [-1]}, None),
        ({"prompt": []}, None),
        ({"prompt": "a " * 9000}, "prompt"),
        ({"prompt": ["a"] * 60, "n": 3}, "n"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "logprobs": 30}, "logprobs"),
    ],
)
def test_raw_completions_check_their_fields_as_well(server, body, param):
    error = error_of(server.client.post("/v1/completions", json=body), 400)
    if param is not None:
        assert error["param"] == param


def test_every_answer_has_a_request_id_and_security_headers(server):
    for path in ("/health", "/", "/docs", "/v1/nothing", "/v1/models"):
        headers = server.client.get(path).headers
        assert headers["x-request-id"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"].split("script-src")[1].split(";")[0]
    assert server.client.get("/health", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"


def test_the_docs_page_loads_nothing_from_elsewhere_and_its_parts_are_there(server):
    page = server.client.get("/docs").text
    assert "http" not in page
    for path in (
        "/docs/static/favicon.png",
        "/docs/static/swagger-ui.css",
        "/docs/static/swagger-ui-bundle.js",
        "/docs/start.js",
        "/openapi.json",
    ):
        assert server.client.get(path).status_code == 200


def test_the_schema_promises_no_422(server):
    schema = server.client.get("/openapi.json").json()
    assert "422" not in json.dumps(schema)
    assert {
        "/health",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/chat/stream",
        "/v1/completions",
        "/v1/embeddings",
        "/metrics",
    } <= set(schema["paths"])
    chat_responses = schema["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert chat_responses["400"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")


def test_the_root_is_a_page_and_unknown_files_are_not(server):
    assert "Resonance" in server.client.get("/").text
    assert server.client.get("/").headers["content-type"].startswith("text/html")
    assert server.client.get("/c/some-conversation").headers["content-type"].startswith("text/html")
    error_of(server.client.get("/../../etc/passwd"), 404)
    error_of(server.client.get("/secret.txt"), 404)


def test_a_405_names_all_methods_of_the_address(server):
    response = server.client.request("OPTIONS", "/v1/conversations/x")
    assert response.status_code == 405
    assert {"GET", "PATCH", "DELETE"} <= set(response.headers["Allow"].split(", "))
