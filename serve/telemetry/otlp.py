"""Traces in OTLP over HTTP: one span for each request, with child spans for queue, prefill and decode.

This module is imported only where a collector is configured. Attributes follow OpenTelemetry's semantic conventions.
"""

import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve.telemetry.tracing import AnswerRecord

EXPORT_TIMEOUT = 5.0  # seconds


class OtlpTracing:
    """Exports traces to the collector at `endpoint`. OpenTelemetry's OTEL_* variables apply."""

    def __init__(self, endpoint: str, version: str) -> None:
        resource = Resource.create({"service.name": "resonance", "service.version": version})
        self._provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()))
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("resonance.serve", version)
        self._propagator = TraceContextTextMapPropagator()

    def start_trace(self, method: str, headers: Mapping[str, str], request_id: str) -> "OtlpTrace":
        """Start a request's trace, as a part of the client's trace where `traceparent` names one."""
        parent = self._propagator.extract(headers)
        attributes = {"http.request.method": method, "resonance.request_id": request_id}
        span = self._tracer.start_span(method, parent, kind=SpanKind.SERVER, attributes=attributes)
        return OtlpTrace(self._tracer, span, method)

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()


class OtlpTrace:
    """The trace of one request."""

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        self._tracer, self._span, self._method = tracer, span, method
        self._context: Context = set_span_in_context(span)
        self._epoch = time.time_ns() - time.monotonic_ns()

    @property
    def id(self) -> str:
        """The trace id in the format of `traceparent`."""
        return format_trace_id(self._span.get_span_context().trace_id)

    def record_answer(self, answer: AnswerRecord) -> None:
        """Add the answer's counts, and a span for each of its phases."""
        self._span.set_attributes(
            {
                "gen_ai.response.id": answer.id,
                "gen_ai.response.model": answer.model,
                "gen_ai.usage.input_tokens": answer.prompt_tokens,
                "gen_ai.usage.output_tokens": answer.completion_tokens,
                "gen_ai.response.finish_reasons": answer.finish_reasons,
            }
        )
        if answer.failure is not None:
            self._span.set_attribute("error.type", answer.failure)
            self._span.set_status(Status(StatusCode.ERROR))
        times = (answer.sent_at, answer.claimed_at, answer.first_at, answer.ended_at)
        for name, start, end in zip(("queue", "prefill", "decode"), times, times[1:], strict=False):
            if start is not None:
                self._add_span(name, start, answer.ended_at if end is None else end)

    def end(self, route: str, status: int) -> None:
        """End the span with the response's status."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def _add_span(self, name: str, start: float, end: float) -> None:
        span = self._tracer.start_span(name, self._context, start_time=self._epoch + int(start * 1e9))
        span.end(self._epoch + int(end * 1e9))
