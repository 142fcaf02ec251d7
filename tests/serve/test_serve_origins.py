"""Pages of other people: what they let a browser send to a server on its user's machine changes and reads nothing."""

import json
import socket
from contextlib import closing
from datetime import UTC, datetime

import httpx
import pytest

from serve.middleware.host import Host, HostMiddleware, parse_host

NAMED, PAGE = "chat.lan", "http://localhost:5173"
EVIL = {"Origin": "https://evil.example"}
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def open_server(launch):
    """A server without keys, with a name of its own and a page of another origin that may call."""
    return launch("checkpoint=tiny", f"allowed_hosts=[{NAMED}]", f"cors_origins=['{PAGE}']", "log=info")


def raw(server, text: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what a server answers to these very bytes, until it closes the connection."""
    host, port = server.base.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=60)) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode("latin-1"))
        data = b""
        while part := connection.recv(65536):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, body


def with_hosts(server, *hosts: str, line: str = "GET /health HTTP/1.1") -> tuple[int, bytes]:
    head = "".join(f"Host: {host}\n" for host in hosts)
    status, _, body = raw(server, f"{line}\n{head}Connection: close\n\n")
    return status, body


def one_conversation() -> str:
    now = datetime.now(UTC).isoformat()
    asked = {"id": "q", "role": "user", "content": "What is 2 + 2?", "created_at": now}
    corrected = {"rating": -1, "correction": "five"}
    answer = {"id": "a", "parent_id": "q", "role": "assistant", "content": "four", "created_at": now}
    whole = {
        "id": "planted",
        "created_at": now,
        "updated_at": now,
        "messages": [asked, answer | {"feedback": corrected}],
    }
    return json.dumps(whole)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "localhost.",
        "localhost.:8000",
        "app.localhost:1",
        "127.0.0.1",
        "127.9.9.9:8000",
        "[::1]",
        "[::1]:8000",
        "[::ffff:127.0.0.1]:8000",
        "[0:0:0:0:0:0:0:1]",
        NAMED,
        f"{NAMED.upper()}.:9000",
    ],
)
def test_a_server_without_keys_answers_under_loopback_names_and_those_that_it_was_given(open_server, host):
    assert with_hosts(open_server, host)[0] == 200


@pytest.mark.parametrize(
    "hosts",
    [
        ("evil.example",),
        ("evil.example:8000",),
        ("localhost.evil.example",),
        ("evil-localhost",),
        ("localhost@evil.example",),
        ("evil.example@localhost",),
        ("127.0.0.1.evil.example",),
        ("1270.0.0.1",),
        ("0.0.0.0",),
        ("192.168.1.20:8000",),
        ("[fe80::1%lo]",),
        ("[localhost]",),
        ("::1",),
        ("[::1",),
        ("localhost:8000:8000",),
        ("localhost:port",),
        ("localhost:99999",),
        ("localhost, evil.example",),
        ("http://localhost",),
        ("localhost..",),
        ("",),
        ("\xff\xfe",),
        ("localhost", "evil.example"),
        ("localhost", "localhost"),
        (),
    ],
)
def test_a_name_that_somebody_else_lets_lead_here_is_answered_403(open_server, hosts):
    status, body = with_hosts(open_server, *hosts)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (403, "host_not_allowed", "Host")
    assert error["type"] == "permission_error"


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/1.1",
        "GET /c/some-conversation HTTP/1.1",
        "GET /docs HTTP/1.1",
        "GET /docs/static/favicon.png HTTP/1.1",
        "GET /openapi.json HTTP/1.1",
        "GET /metrics HTTP/1.1",
        "GET /nowhere HTTP/1.1",
        "GET /v1/conversations HTTP/1.1",
        "GET /v1/conversations.jsonl HTTP/1.1",
        "DELETE /v1/conversations HTTP/1.1",
        "OPTIONS /v1/conversations HTTP/1.1\nOrigin: http://localhost:5173\nAccess-Control-Request-Method: DELETE",
        "GET /health HTTP/1.1\nX-Forwarded-Host: localhost\nForwarded: host=localhost",
        "GET /v1/chat/stream HTTP/1.1\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ],
)
def test_a_rebound_name_reaches_nothing_at_all(open_server, line):
    status, body = with_hosts(open_server, "rebound.evil.example:8000", line=line)
    assert (status, json.loads(body)["error"]["code"]) == (403, "host_not_allowed")
    assert raw(open_server, "HEAD / HTTP/1.1\nHost: rebound.evil.example\nConnection: close\n\n")[0] == 403


def test_a_request_without_a_host_is_refused_and_a_refusal_is_as_protected_as_an_answer(open_server):
    status, headers, _ = raw(open_server, "GET /health HTTP/1.0\n\n")
    assert status == 403
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"]


@pytest.mark.parametrize("reached", ["192.168.1.20", "::ffff:192.168.1.20"])
def test_the_address_that_a_connection_has_reached_is_no_foreign_name(reached):
    check = HostMiddleware(None, names=(), bound="0.0.0.0")

    def admits(host: str) -> bool:
        return check._is_allowed({"headers": [(b"host", host.encode())], "server": (reached, 8000)})

    assert admits("192.168.1.20:8000")
    assert admits("0.0.0.0:8000")
    assert not admits("192.168.1.21:8000")
    assert not admits("chat.lan")


def test_a_host_is_read_in_one_normal_form():
    assert parse_host("[2001:DB8:0::1]:443") == parse_host("[2001:db8::1]:443") == Host("2001:db8::1", 443)
    assert parse_host("Chat.LAN.") == Host("chat.lan", None)
    assert parse_host("[127.0.0.1]") is None


def state_changing(server) -> list[tuple[str, str]]:
    schema = httpx.get(f"{server.base}/openapi.json").json()
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in schema["paths"].items()
        for method in operations
        if method not in ("get", "head", "options")
    ]


@pytest.mark.parametrize(
    "headers",
    [
        EVIL,
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:3000"},  # another program of this machine: the same site, another origin
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        EVIL | {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://localhost:5173"},  # not the scheme that was named
        {"Origin": "http://localhost:5173.evil.example"},
    ],
    ids=str,
)
def test_pages_of_other_origins_change_nothing_at_any_address(open_server, headers):
    addresses = state_changing(open_server)
    assert ("POST", "/v1/conversations.jsonl") in addresses
    assert ("DELETE", "/v1/conversations") in addresses
    for method, path in [*addresses, ("POST", "/v1/nowhere"), ("TRACE", "/health"), ("POST", "/")]:
        refused = open_server.client.request(method, path, headers=headers, content=one_conversation())
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed"), (method, path)
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "{own}"},
        {"Origin": "{own}", "Sec-Fetch-Site": "same-origin"},
        {"Origin": PAGE, "Sec-Fetch-Site": "same-site"},
        {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"https://{NAMED}", "Host": NAMED},  # a proxy that ends TLS and sends Host on
        {"Origin": f"https://{NAMED}", "Host": f"{NAMED}:443"},
        {"Origin": "https://chat.example.org", "Sec-Fetch-Site": "same-origin"},  # one that does not
        {"Origin": "http://localhost:9999", "Host": "localhost:9999"},  # `npm run dev` sends Host on
    ],
    ids=str,
)
def test_its_own_page_its_proxies_and_programs_may_change_things(open_server, headers):
    headers = {name: value.replace("{own}", open_server.base) for name, value in headers.items()}
    answer = open_server.client.post("/v1/chat/completions", json=HELLO, headers=headers)
    assert answer.status_code == 200, answer.text


def test_reading_is_left_to_the_same_origin_policy(open_server):
    models = open_server.client.get("/v1/models", headers=EVIL | {"Sec-Fetch-Site": "cross-site"})
    assert models.status_code == 200
    assert "access-control-allow-origin" not in models.headers


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/json",
        "text/plain; application/x-ndjson",
        "application/x-ndjson, text/plain",
        "",
    ],
)
def test_an_import_takes_lines_of_json_that_say_so_and_nothing_else(open_server, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    refused = open_server.client.post("/v1/conversations.jsonl", content=one_conversation(), headers=headers)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (415, "unsupported_media_type")
    assert "application/x-ndjson or application/jsonl" in error["message"]
    assert open_server.client.get("/v1/conversations/planted").status_code == 404
    assert open_server.client.get("/v1/training.jsonl").text == ""


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson; charset=utf-8", "Application/JSONL"])
def test_both_names_of_json_lines_are_taken(open_server, kind):
    headers = {"Content-Type": kind}
    taken = open_server.client.post("/v1/conversations.jsonl", content=one_conversation(), headers=headers)
    assert taken.json()["imported"] == 1
    assert open_server.client.delete("/v1/conversations/planted").status_code == 200


def test_every_endpoint_that_documents_a_body_insists_on_its_type(open_server):
    schema = httpx.get(f"{open_server.base}/openapi.json").json()
    checked = 0
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if "requestBody" not in operation:
                continue
            checked += 1
            for kind in (None, "text/plain", "application/x-www-form-urlencoded", "application/vnd.api+json"):
                headers = {} if kind is None else {"Content-Type": kind}
                address = path.replace("{", "").replace("}", "")
                refused = open_server.client.request(method, address, content=b'{"a": 1}', headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type"), path
                assert "415" in operation["responses"]
    assert checked >= 8


def test_head_is_answered_as_get_is_without_the_body(open_server):
    for path in ("/health", "/", "/docs", "/openapi.json", "/v1/models", "/v1/models/tiny", "/metrics",
                 "/v1/conversations", "/v1/conversations.jsonl"):  # fmt: skip
        got = open_server.client.get(path)
        status, headers, body = raw(open_server, f"HEAD {path} HTTP/1.1\nHost: localhost\nConnection: close\n\n")
        assert (status, body) == (200, b""), path
        assert headers["content-type"] == got.headers["content-type"]
    for path, expected in (("/nowhere", 404), ("/v1/conversations/nothing", 404), ("/v1/chat/completions", 405)):
        assert open_server.client.head(path).status_code == expected
    assert any('"HEAD"' in line and '"/health"' in line for line in open_server.log.read_text().splitlines())
