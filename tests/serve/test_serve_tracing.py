"""Traces, as a collector receives them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SECRET = "zanzibar"
CHAT = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 6, "logit_bias": {"50256": -100}}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Keeps what is posted to /v1/traces."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                collector.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            assert any(
                a.key == "service.name" and a.value.string_value == "resonance" for a in resource.resource.attributes
            )
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def of(self, trace_id: str) -> dict[str, Any]:
        """The spans of a trace by their names, once the one of the request is here; it is sent last."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            spans = {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}
            if any(name.startswith("POST") for name in spans):
                return spans
            time.sleep(0.05)
        raise AssertionError(f"no trace {trace_id} has come")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()


@pytest.fixture(scope="module")
def traced(launch, collector):
    """A server that is told of the collector as other programs are, by the environment."""
    endpoint = f"http://127.0.0.1:{collector.server.server_port}"
    return launch("checkpoint=tiny", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="100")


def attributes(span) -> dict[str, Any]:
    """A span's attributes as plain values."""
    values = {a.key: a.value for a in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": SECRET, "max_tokens": 6})],
)
def test_a_request_is_a_span_of_the_clients_trace_with_queue_prefill_and_decode_in_it(
    traced, collector, path, body, stream
):
    trace = TRACE[:-2] + f"{len(collector.bodies):02x}"
    headers = {"traceparent": f"00-{trace}-{PARENT}-01", "X-Request-ID": "mine"}
    response = traced.client.post(path, json=body | {"stream": stream}, headers=headers)
    assert response.status_code == 200
    spans = collector.of(trace)
    request = spans.pop(f"POST {path}")
    said = attributes(request)
    assert request.parent_span_id.hex() == PARENT
    assert (said["resonance.request_id"], said["http.response.status_code"]) == ("mine", 200)
    assert (said["gen_ai.response.model"], said["gen_ai.usage.output_tokens"]) == ("tiny", 6)
    assert said["gen_ai.usage.input_tokens"] > 0
    assert said["gen_ai.response.finish_reasons"].values[0].string_value == "length"
    assert list(spans) == ["queue", "prefill", "decode"]
    assert {span.parent_span_id for span in spans.values()} == {request.span_id}
    times = [request.start_time_unix_nano]
    for span in spans.values():
        assert times[-1] <= span.start_time_unix_nano <= span.end_time_unix_nano <= request.end_time_unix_nano
        times.append(span.end_time_unix_nano)
    assert trace in traced.log.read_text()
    assert not any(SECRET.encode() in body for body in collector.bodies)


def test_what_is_refused_has_a_span_without_children_and_health_has_none(traced, collector):
    trace = TRACE[:-2] + "ff"
    headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
    assert traced.client.get("/health", headers=headers).status_code == 200
    assert traced.client.post("/v1/chat/completions", json={}, headers=headers).status_code == 400
    spans = collector.of(trace)
    assert list(spans) == ["POST /v1/chat/completions"]
    assert attributes(spans["POST /v1/chat/completions"])["http.response.status_code"] == 400


def test_without_a_collector_nothing_that_sends_traces_is_imported():
    """FastAPI looks for OpenTelemetry's interface by itself; what does the work is the SDK and the exporter."""
    code = "import sys, serve.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "litserve" in done.stdout
    assert "opentelemetry.sdk" not in done.stdout
    assert "opentelemetry.exporter" not in done.stdout
