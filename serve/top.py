"""`resonance top`: a live view of a running server in the terminal, from its /health and /metrics."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, cast

import httpx
from omegaconf import OmegaConf
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live
from rich.table import Table

from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from serve.owners import parse_environment_keys

REQUEST_TIMEOUT = 5.0  # seconds
LATENCIES = {
    "first token": "resonance_time_to_first_token_seconds",
    "whole answer": "resonance_answer_seconds",
}


class TopError(ResonanceError):
    """The server does not answer, or requires a key."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The server at one moment: its health, its metrics by name, and its histograms' counts by upper bound."""

    health: Mapping[str, Any]
    values: Mapping[str, float]
    buckets: Mapping[str, Mapping[float, float]]

    def quantile(self, name: str, share: float) -> float | None:
        """The least bucket bound, in seconds, above this share of a histogram's values; None without values."""
        counts = self.buckets.get(name, {})
        total = max(counts.values(), default=0.0)
        if not total:
            return None
        return min((bound for bound, count in counts.items() if count >= share * total), default=inf)


def main(overrides: list[str]) -> None:
    """Show a server until Ctrl-C. Raises TopError where it does not answer, or requires a key."""
    values = cast("dict[str, Any]", OmegaConf.to_container(compose("top", overrides), resolve=True))
    interval = values["every_s"]
    if not isinstance(interval, int | float) or interval < 0.1:
        raise TopError(f"every_s must be a number from 0.1 up, not {interval!r}.")
    url = str(values["url"])
    if not url.startswith(("http://", "https://")):
        raise TopError(f"url must be a server's address, http://127.0.0.1:8000 for example, not {url!r}.")
    keys = parse_environment_keys(os.environ.get("RESONANCE_API_KEYS", ""))
    headers = {"Authorization": f"Bearer {keys[0].key}"} if keys else {}
    console = Console()
    try:
        client = httpx.Client(base_url=url, headers=headers, timeout=REQUEST_TIMEOUT)
    except httpx.InvalidURL as error:
        raise TopError(f"url must be a server's address, http://127.0.0.1:8000 for example ({error}).") from error
    with client:
        table = show(fetch(client))
        if values["once"]:
            console.print(table)
            return
        with Live(table, console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                time.sleep(interval)
                try:
                    live.update(show(fetch(client)), refresh=True)
                except TopError as error:  # it may be restarting
                    live.update(str(error), refresh=True)


def fetch(client: httpx.Client) -> Snapshot:
    """Fetch a snapshot. Raises TopError."""
    try:
        health, metrics = client.get("/health"), client.get("/metrics")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TopError(
            f"{client.base_url} does not answer ({type(error).__name__}); is the server running, and is url right?"
        ) from error
    if metrics.status_code == 401:
        raise TopError(f"{client.base_url} asks for an API key: put one into RESONANCE_API_KEYS.")
    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    try:
        for family in text_string_to_metric_families(metrics.text):
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    buckets.setdefault(family.name, {})[float(sample.labels["le"])] = sample.value
                else:
                    values[sample.name] = values.get(sample.name, 0.0) + sample.value
        return Snapshot(health.json(), values, buckets)
    except (ValueError, KeyError) as error:
        raise TopError(f"{client.base_url} answers, but not as a Resonance server does.") from error


def show(snapshot: Snapshot) -> Table:
    """A snapshot as a table."""

    def value(name: str) -> float:
        return snapshot.values.get(f"resonance_{name}", 0.0)

    model: Mapping[str, Any] = snapshot.health["model"]
    table = Table(
        title=f"{model['id']} · {snapshot.health['status']} · up {_duration(snapshot.health['uptime_s'])}",
        show_header=False,
    )
    table.add_column(style="dim")
    table.add_column(justify="right")
    prompt, cached = value("prompt_tokens_total"), value("cached_prompt_tokens_total")
    rows = {
        "requests under way": f"{value('active_requests'):.0f} of {value('request_places'):.0f}",
        "requests waiting": f"{value('queued_requests'):.0f}",
        "answers in the batch": f"{value('batch_size'):.0f}",
        "tokens a second": f"{value('tokens_per_second'):,.0f}",
        "tokens generated": f"{value('generated_tokens_total'):,.0f}",
        "tokens of prompts": f"{prompt:,.0f}" + (f" ({cached / prompt:.0%} cached)" if prompt else ""),
        "cancelled": f"{value('cancelled_requests_total'):.0f}",
        "refused": f"{value('rejected_requests_total'):.0f}",
        "workers": f"{value('workers_ready'):.0f} of {value('workers'):.0f}",
        "worker restarts": f"{value('worker_restarts_total'):.0f}",
    }
    for name, metric in LATENCIES.items():
        rows[f"{name}, half | 95%"] = " | ".join(_bound(snapshot.quantile(metric, share)) for share in (0.5, 0.95))
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _bound(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if not isfinite(seconds):
        return "longer"
    return f"≤ {seconds * 1000:.0f} ms" if seconds < 1 else f"≤ {seconds:g} s"


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
