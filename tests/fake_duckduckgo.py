"""A server that plays DuckDuckGo."""

import contextlib
import html
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs

RESULT = """<div class="result results_links web-result">
<div class="links_main links_deep result__body">
<h2 class="result__title"><a rel="nofollow" class="result__a" href="{url}">{title}</a></h2>
<div class="result__extras"><div class="result__extras__url"><a class="result__url" href="{url}">{url}</a></div></div>
<a class="result__snippet" href="{url}">{snippet}</a><div class="clear"></div></div></div>"""
PAGE = """<!DOCTYPE html><html><head><meta http-equiv="content-type" content="text/html; charset=UTF-8">
<title>{query} at DuckDuckGo</title></head><body>
<form id="search_form_homepage"><input name="q" value="{query}"></form>
<div class="serp__results"><div id="links" class="results">{results}</div></div></body></html>"""
EMPTY = PAGE.format(query="x", results='<div class="no-results">No  results.</div>')
CHALLENGE = """<html><body><form id="challenge-form" action="//duckduckgo.com/anomaly.js?sv=html" method="POST">
<div class="anomaly-modal__title">Unfortunately, bots use DuckDuckGo too.</div></form></body></html>"""


def results_page(*results: tuple[str, str, str]) -> str:
    return PAGE.format(
        query="q",
        results="".join(RESULT.format(url=html.escape(u), title=t, snippet=s) for t, u, s in results),
    )


PARIS = results_page(
    ("Paris - Encyclopedia", "https://en.encyclopedia.example/Paris", "<b>Paris</b> is the capital of <b>France</b>."),
    ("Visit Paris", "https://visit.example/paris?a=1&b=%20c", "Hotels and museums in Paris."),
)


class FakeDuckDuckGo:
    """Answers every request with the same status and page; counts and keeps what was asked."""

    PAGES: ClassVar = {"Paris": PARIS, "empty": EMPTY, "challenge": CHALLENGE}

    def __init__(self) -> None:
        self.status, self.page, self.delay, self.truncate = 200, PARIS, 0.0, False
        self.asked: list[dict[str, list[str]]] = []
        self.times: list[float] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                fake.asked.append(parse_qs(body))
                fake.times.append(time.monotonic())
                time.sleep(fake.delay)
                data = fake.page.encode()
                self.send_response(fake.status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data[: len(data) // 2] if fake.truncate else data)
                if fake.truncate:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/html/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def shows(self, *results: tuple[str, str, str]) -> None:
        """Answer with these results from now on: title, address, snippet."""
        self.page = results_page(*results)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
