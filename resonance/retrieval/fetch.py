"""Fetches the pages of the best hits within strict limits and extracts their article text."""

import asyncio
import re
import ssl
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import httpcore
import httpx
import lxml.etree
import lxml.html
import trafilatura

from resonance.retrieval.cache import Cache
from resonance.retrieval.sanitize import visible
from resonance.retrieval.ssrf import AddressPolicy, CheckedBackend, ForbiddenAddress, TunnelBackend
from resonance.retrieval.stop_words import word_set

LARGEST = 1024 * 1024
SECONDS = 5.0
REDIRECTS = 3
# Characters of a page that ranking uses; articles are rarely longer, and the answer is usually near the top.
TEXT = 40_000
_TYPES = ("text/html", "application/xhtml+xml", "text/plain")
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; Resonance)",
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8",
    "Accept-Encoding": "gzip, deflate",
    "Accept-Language": "en;q=0.9,*;q=0.5",
}
# Elements of a page; article extraction takes superlinear time and is skipped for larger pages.
ELEMENTS = 4000
_INLINE = word_set("a abbr b bdi bdo cite code em i kbd mark q s samp small span strong sub sup time u var")
_CELLS = frozenset(("td", "th"))
_RULE = re.compile(r"[|:\s-]+")  # between a table's head and its rows
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# Elements that are invisible on the page but present in its source, where prompt injections hide.
_UNSEEN_TAGS = word_set("script style noscript template iframe object svg dialog button select datalist textarea")
_NOTHING = r"0+(?:\.0+)?[a-z%]*(?:;|$)"
_UNSEEN_STYLES = re.compile(
    r"(?:^|;)(?:display:none|visibility:(?:hidden|collapse)|color:transparent|text-indent:-\d{3}|clip:rect\(0"
    r"|(?:left|top|right|bottom):-\d{3}|clip-path:inset\((?:50|100)%|font-size:[01](?:px|pt)(?:;|$)"
    rf"|(?:opacity|font-size|(?:max-)?(?:height|width)):{_NOTHING})"
)
# Navigation elements.
_AROUND = frozenset(("nav", "footer"))
_UNSEEN_CLASSES = frozenset(("sr-only", "visually-hidden", "visuallyhidden", "screen-reader-text", "hidden", "d-none"))


class PageError(Exception):
    """An unusable page; the message says why."""


class CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over checked connections, without settings from the environment."""

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext, proxy: httpx.URL | None = None) -> None:
        super().__init__(verify=tls, trust_env=False, http2=True)
        backend = CheckedBackend(policy) if proxy is None else TunnelBackend(policy, proxy)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls, http1=True, http2=True, max_connections=8, network_backend=backend
        )


class Pages:
    """Reads pages as text.

    Args:
        policy: the addresses that connections may go to.
        cache: texts by URL, and failures.
        ttl: lifetime of a cached text, in seconds.
        failures_ttl: lifetime of a cached failure, in seconds.
        proxy: an HTTP proxy for all pages, or None.
    """

    def __init__(
        self, policy: AddressPolicy, cache: Cache, *, ttl: float, failures_ttl: float, proxy: httpx.URL | None = None
    ) -> None:
        self._proxy = proxy
        self._policy = policy
        self._cache = cache
        self._ttl = ttl
        self._failures_ttl = failures_ttl

    async def read(self, urls: Sequence[str], *, deadline: float) -> dict[str, str]:
        """The texts fetched within `deadline` seconds, by URL; failures are left out."""
        texts: dict[str, str] = {}
        async with self.client() as client:
            tasks = {url: asyncio.create_task(self._read(client, url)) for url in urls}
            done, late = await asyncio.wait(tasks.values(), timeout=deadline) if tasks else (set(), set())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for url, task in tasks.items():
            if task in done and task.exception() is None and task.result():
                texts[url] = task.result()
        return texts

    async def _read(self, client: httpx.AsyncClient, url: str) -> str:
        entry = await asyncio.to_thread(self._cache.get, "pages", url, max_age=self._ttl)
        if entry is not None:
            return str(entry.value)
        if await asyncio.to_thread(self._cache.get, "failed pages", url, max_age=self._failures_ttl) is not None:
            return ""
        try:
            text = await asyncio.wait_for(self.fetch(client, url), SECONDS)
        except (PageError, ForbiddenAddress, httpx.HTTPError, httpx.InvalidURL, UnicodeError, TimeoutError):
            await asyncio.to_thread(self._cache.put, "failed pages", url, True)
            return ""
        await asyncio.to_thread(self._cache.put, "pages", url, text)
        return text

    def client(self) -> httpx.AsyncClient:
        """A client with checked connections; `fetch` follows redirects one by one."""
        return httpx.AsyncClient(
            transport=CheckedTransport(self._policy, _tls(), self._proxy),
            headers=_HEADERS,
            timeout=SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    async def fetch(self, client: httpx.AsyncClient, url: str) -> str:
        """The article text of one page.

        Raises PageError, ForbiddenAddress or httpx.HTTPError.
        """
        address = httpx.URL(url)
        for _ in range(REDIRECTS + 1):
            _check(address)
            async with client.stream("GET", address) as response:
                if response.is_redirect:
                    address = address.join(response.headers.get("location", ""))
                    continue
                if response.status_code != 200:
                    raise PageError(f"HTTP {response.status_code}")
                kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
                if kind not in _TYPES:
                    raise PageError(f"{kind or 'an unnamed type'} is not read")
                body = await _body(response)
            encoding = response.charset_encoding
            return await asyncio.to_thread(_text, body, encoding, kind)
        raise PageError(f"more than {REDIRECTS} redirects")


def _check(address: httpx.URL) -> None:
    if address.scheme not in ("http", "https") or not address.host:
        raise ForbiddenAddress(f"{address.scheme or 'no scheme'} is not fetched; only http and https are")
    if address.userinfo:
        raise ForbiddenAddress("an address with a user name is not fetched")


async def _body(response: httpx.Response) -> bytes:
    """Read at most LARGEST bytes, counted after incremental decompression; the rest is not read."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise PageError(f"the encoding {encoding} was not requested")
    unpacker = None if encoding == "identity" else zlib.decompressobj(wbits=47)  # 47: gzip or zlib by the header
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += chunk if unpacker is None else unpacker.decompress(chunk, LARGEST - len(body) + 1)
        except zlib.error as error:
            raise PageError("it is not compressed as it says") from error
        if len(body) >= LARGEST:
            break
    return bytes(body[:LARGEST])


def _text(body: bytes, encoding: str | None, kind: str) -> str:
    if kind == "text/plain":
        return visible(body.decode(encoding or "utf-8", "replace"))[:TEXT]
    try:
        page = body.decode(encoding, "replace") if encoding else body
    except LookupError:
        page = body
    return visible(article_text(page))[:TEXT]


def article_text(page: str | bytes) -> str:
    """The visible article text of an HTML page, paragraphs separated by blank lines."""
    tree = _seen(page)
    if tree is None:
        return ""
    text = ""
    if sum(1 for _ in tree.iter()) <= ELEMENTS:
        text = trafilatura.extract(tree, fast=True, include_comments=False, favor_recall=True)
    # All visible text, if no article is recognised or the page is too large for extraction.
    return _paragraphs(_rows(text.splitlines()) if text else _blocks(tree))


def seen_text(page: str | bytes) -> str:
    """All visible text of an HTML page except navigation, paragraphs separated by blank lines."""
    tree = _seen(page)
    if tree is None:
        return ""
    for node in list(tree.iter(*_AROUND)):
        node.drop_tree()
    return _paragraphs(_blocks(tree))


@dataclass(frozen=True, slots=True)
class Outline:
    """A page's title (else its first heading, else empty) and all its headings."""

    title: str
    headings: frozenset[str]


def outline_of(page: str | bytes) -> Outline:
    """The title and headings of a page."""
    tree = _parsed(page)
    if tree is None:
        return Outline("", frozenset())
    titles, headings = (
        [text for node in tree.iter(*tags) if (text := " ".join(node.text_content().split()))]
        for tags in (("title",), _HEADINGS)
    )
    return Outline(next(iter((*titles[:1], *headings[:1])), ""), frozenset(headings))


def _seen(page: str | bytes) -> lxml.html.HtmlElement | None:
    """The visible part of the page's body; None if there is no page."""
    tree = _parsed(page)
    if tree is None:
        return None
    for node in [node for node in tree.iter() if _is_unseen(node)]:
        if node.getparent() is not None:
            node.drop_tree()
    body = tree.find("body")
    return body if body is not None else tree


def _paragraphs(blocks: Iterable[str]) -> str:
    return "\n\n".join(line for block in blocks if (line := " ".join(block.split())))


def _rows(lines: Iterable[str]) -> Iterator[str]:
    """Lines, with table rows as lists: `| red | restart |` becomes `red, restart`."""
    for line in lines:
        if not line.startswith("|"):
            yield line
        elif not _RULE.fullmatch(line):
            yield ", ".join(cell.strip() for cell in line.strip("| ").split("|"))


def _blocks(tree: lxml.html.HtmlElement) -> Iterator[str]:
    """The text of each paragraph, heading, row or list item, in order."""
    gathered: list[str] = []
    for event, node in lxml.etree.iterwalk(tree, events=("start", "end")):
        if node.tag in _CELLS:
            gathered.append(", " if event == "start" and node.getprevious() is not None else "")
        elif node.tag not in _INLINE:
            yield "".join(gathered)
            gathered.clear()
        gathered.append((node.text if event == "start" else node.tail) or "")
    yield "".join(gathered)


def _is_unseen(node: lxml.html.HtmlElement) -> bool:
    if not isinstance(node.tag, str):
        return True  # comments and processing instructions
    style = re.sub(r"\s+|!important", "", node.get("style", "").lower())
    return (
        node.tag in _UNSEEN_TAGS
        or node.get("hidden") is not None
        or node.get("aria-hidden") == "true"
        or not _UNSEEN_CLASSES.isdisjoint(node.get("class", "").split())
        or (bool(style) and _UNSEEN_STYLES.search(style) is not None)
    )


def _parsed(page: str | bytes) -> lxml.html.HtmlElement | None:
    if not page.strip():
        return None
    if isinstance(page, str):
        # lxml refuses a str with an encoding declaration and would follow the declaration of bytes.
        page, parser = page.encode("utf-8", "replace"), lxml.html.HTMLParser(encoding="utf-8", remove_comments=True)
    else:
        parser = lxml.html.HTMLParser(remove_comments=True)
    try:
        return lxml.html.document_fromstring(page, parser=parser)
    except (lxml.etree.ParserError, ValueError):
        return None


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # Cached: loading the certificates takes longer than fetching a page.
    return httpx.create_ssl_context(trust_env=False)
