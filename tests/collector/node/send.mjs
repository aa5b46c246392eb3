// Sends known spans and metrics with the official OpenTelemetry JS exporters, and prints as JSON what it has sent.
//
//   node send.mjs '{"protocol": "proto|json|grpc", "traces": URL, "metrics": URL, "service": NAME, "compression": "gzip|none"}'
//
// It ends with 1 where an exporter reports an error.

import { ROOT_CONTEXT, SpanKind, SpanStatusCode, diag, DiagLogLevel, trace } from "@opentelemetry/api";
import { OTLPMetricExporter as GrpcMetrics } from "@opentelemetry/exporter-metrics-otlp-grpc";
import { OTLPMetricExporter as JsonMetrics } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter as ProtoMetrics } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter as GrpcTraces } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonTraces } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoTraces } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const EXPORTERS = {
  proto: [ProtoTraces, ProtoMetrics],
  json: [JsonTraces, JsonMetrics],
  grpc: [GrpcTraces, GrpcMetrics],
};

const { protocol, traces, metrics, service, compression } = JSON.parse(process.argv[2]);
const [TraceExporter, MetricExporter] = EXPORTERS[protocol];

const problems = [];
const note = (...words) => problems.push(words.map(String).join(" "));
diag.setLogger({ error: note, warn: note, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const nanoseconds = ([seconds, rest]) => String(BigInt(seconds) * 1_000_000_000n + BigInt(rest));

const sent = [];
const recorder = {
  onStart() {},
  onEnd(span) {
    const { traceId, spanId } = span.spanContext();
    sent.push({
      traceId,
      spanId,
      parentSpanId: span.parentSpanContext?.spanId ?? "",
      name: span.name,
      kind: SpanKind[span.kind],
      start: nanoseconds(span.startTime),
      end: nanoseconds(span.endTime),
      attributes: span.attributes,
      status: SpanStatusCode[span.status.code],
      message: span.status.message ?? "",
      events: span.events.map((event) => ({ name: event.name, time: nanoseconds(event.time), attributes: event.attributes })),
      links: span.links.map((link) => ({
        traceId: link.context.traceId,
        spanId: link.context.spanId,
        attributes: link.attributes ?? {},
      })),
    });
  },
  forceFlush: async () => {},
  shutdown: async () => {},
};

const resource = resourceFromAttributes({ "service.name": service, "service.version": "1.2", "host.name": "node-host" });
const provider = new BasicTracerProvider({
  resource,
  spanProcessors: [recorder, new BatchSpanProcessor(new TraceExporter({ url: traces, compression }))],
});
const tracer = provider.getTracer("node-tests", "0.1");

const root = tracer.startSpan("request", {
  kind: SpanKind.SERVER,
  attributes: {
    text: "grüße",
    empty: "",
    yes: true,
    no: false,
    zero: 0,
    whole: 42,
    negative: -7,
    big: Number.MAX_SAFE_INTEGER,
    half: 0.5,
    tiny: 1e-300,
    texts: ["a", "", "b"],
    numbers: [1, 2, 3],
    flags: [true, false],
    none: [],
    "tailsight.stage": "compute",
  },
});
const inside = trace.setSpan(ROOT_CONTEXT, root);
for (const kind of [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]) {
  const child = tracer.startSpan(
    `child ${SpanKind[kind]}`,
    { kind, links: [{ context: root.spanContext(), attributes: { why: "batch", share: 0.25 } }] },
    inside,
  );
  child.addEvent("retry", { attempt: 2, reason: "timeout" });
  child.addEvent("bare");
  child.setStatus(kind === SpanKind.CLIENT ? { code: SpanStatusCode.ERROR, message: "refused" } : { code: SpanStatusCode.OK });
  child.end();
}
root.end();
tracer.startSpan("").end();

const reader = new PeriodicExportingMetricReader({
  exporter: new MetricExporter({ url: metrics, compression }),
  exportIntervalMillis: 3_600_000,
});
const meters = new MeterProvider({ resource, readers: [reader] });
const meter = meters.getMeter("node-tests");
meter.createObservableGauge("hw.temperature", { unit: "Cel" }).addCallback((result) => result.observe(67.5, { "hw.id": "GPU-1" }));
meter.createCounter("hw.energy", { unit: "J" }).add(1234);

await provider.forceFlush();
await provider.shutdown();
await meters.forceFlush();
await meters.shutdown();

process.stdout.write(`${JSON.stringify({ sent, problems })}\n`);
process.exitCode = problems.length ? 1 : 0;
