"""Prometheus metrics. The workers' counts come from the shared state, the others from the HTTP process."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.workers.shared_state import SharedState

FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RATE_SECONDS = 10
REQUEST_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """All metrics of a server."""

    def __init__(self, state: SharedState, undelivered: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._rate = TokenRate(state)
        self.registry.register(StateCollector(state, undelivered))
        Gauge(
            "resonance_tokens_per_second",
            f"Tokens generated in a second, over the last {RATE_SECONDS}.",
            registry=self.registry,
        ).set_function(self._rate.value)
        self.http = Counter(
            "resonance_http_requests",
            "Requests by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            "resonance_http_request_seconds",
            "Time until a response was complete.",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "resonance_time_to_first_token_seconds",
            "Time from a request to its first token.",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.answer_seconds = Histogram(
            "resonance_answer_seconds",
            "Time from a request to its last token.",
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.rejected = Counter(
            "resonance_rejected_requests",
            "Requests that were refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.shadow_answers = Counter(
            "resonance_shadow_answers",
            "Answers of the shadow checkpoint, by what became of them: kept, the same as the served one, or dropped.",
            ["outcome"],
            registry=self.registry,
        )
        self.searches = Counter(
            "resonance_searches", "Searches, by whether they found sources.", ["outcome"], registry=self.registry
        )

    async def watch(self) -> None:
        """Sample the token rate every second. Runs until it is cancelled."""
        while True:
            self._rate.sample()
            await asyncio.sleep(1.0)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class TokenRate:
    """Generated tokens a second, over the last ten seconds."""

    def __init__(self, state: SharedState) -> None:
        self._state = state
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_SECONDS)

    def sample(self) -> None:
        """Record the count; called once a second."""
        self._samples.append((time.monotonic(), self._state.total("generated_tokens")))

    def value(self) -> float:
        """Tokens a second, up to now."""
        if not self._samples:
            return 0.0
        started_at, count = self._samples[0]
        return (self._state.total("generated_tokens") - count) / max(time.monotonic() - started_at, 1.0)


class StateCollector(Collector):
    """Reads the shared state at each scrape; `undelivered` counts complete answers that are not yet read to the end."""

    def __init__(self, state: SharedState, undelivered: Callable[[], int]) -> None:
        self.state, self.undelivered = state, undelivered

    def collect(self) -> Iterable[Metric]:
        """Everything that the workers count."""
        state, undelivered = self.state, self.undelivered()
        active = state.total("active")
        queued = max(0, state.slots_in_use() - active - undelivered)
        ready = len(state.ready_workers())
        gauges = {
            "resonance_active_requests": ("Requests that a worker is answering.", active),
            "resonance_queued_requests": ("Requests that wait for a worker.", queued),
            "resonance_undelivered_answers": ("Answers that are complete and hold a place until read.", undelivered),
            "resonance_batch_size": ("Answers that the last step went on with.", state.total("batch")),
            "resonance_request_places": ("Requests that can be under way or waiting at once.", state.slots),
            "resonance_workers_ready": ("Workers that take requests.", ready),
            "resonance_workers": ("Workers that there should be.", state.workers),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(name, help_text, value=value)
        counters = {
            "resonance_generated_tokens": ("Tokens that were generated.", state.total("generated_tokens")),
            "resonance_prompt_tokens": ("Tokens of prompts.", state.total("prompt_tokens")),
            "resonance_cached_prompt_tokens": (
                "Tokens of prompts that did not have to be computed.",
                state.total("cached_tokens"),
            ),
            "resonance_engine_steps": ("Steps that the engines computed.", state.total("steps")),
            "resonance_cancelled_requests": (
                "Requests that were dropped because the client had gone or the time was over.",
                state.total("cancelled"),
            ),
            "resonance_worker_restarts": ("Workers that had to be started again.", state.restarts()),
        }
        for name, (help_text, value) in counters.items():
            yield CounterMetricFamily(name, help_text, value=value)
