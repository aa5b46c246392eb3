"""OTLP/JSON metrics into the same protobuf message that OTLP/protobuf brings.

Of histograms and summaries only the number of points is kept: they are counted in the answer and not stored.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

from tailsight_collector.receive.json_fields import (
    attributes_of,
    child,
    double,
    fill_resource,
    fill_scope,
    integer,
    object_of,
    objects,
    parse,
    signed,
    string,
    typed,
)


def parse_metrics(body: bytes) -> ExportMetricsServiceRequest:
    """Decode an OTLP/JSON metrics request; raises BadRequestError with the place and the value."""
    return parse(body, metrics_from_document)


def metrics_from_document(document: object) -> ExportMetricsServiceRequest:
    """Turn a decoded JSON document into a request; raises BadRequestError with the place and the value."""
    request = ExportMetricsServiceRequest()
    for resource_metrics in objects(object_of(document, "the request"), "resourceMetrics"):
        target = request.resource_metrics.add(schema_url=string(resource_metrics, "schemaUrl"))
        fill_resource(target.resource, resource_metrics)
        for scope_metrics in objects(resource_metrics, "scopeMetrics"):
            scoped = target.scope_metrics.add(schema_url=string(scope_metrics, "schemaUrl"))
            fill_scope(scoped.scope, scope_metrics)
            for metric in objects(scope_metrics, "metrics"):
                _fill_metric(scoped.metrics.add(), metric)
    return request


def _fill_metric(target: Metric, metric: dict[str, Any]) -> None:
    target.name = string(metric, "name")
    target.description = string(metric, "description")
    target.unit = string(metric, "unit")
    # the first that is there, as a oneof has one
    if (gauge := child(metric, "gauge")) is not None:
        target.gauge.SetInParent()
        for point in objects(gauge, "dataPoints"):
            _fill_point(target.gauge.data_points.add(), point)
    elif (total := child(metric, "sum")) is not None:
        target.sum.SetInParent()
        target.sum.aggregation_temporality = integer(total, "aggregationTemporality", 31)  # type: ignore[assignment]
        target.sum.is_monotonic = typed(total.get("isMonotonic") or False, bool, "isMonotonic")
        for point in objects(total, "dataPoints"):
            _fill_point(target.sum.data_points.add(), point)
    elif (histogram := child(metric, "histogram")) is not None:
        target.histogram.SetInParent()
        for _ in objects(histogram, "dataPoints"):
            target.histogram.data_points.add()
    elif (exponential := child(metric, "exponentialHistogram")) is not None:
        target.exponential_histogram.SetInParent()
        for _ in objects(exponential, "dataPoints"):
            target.exponential_histogram.data_points.add()
    elif (summary := child(metric, "summary")) is not None:
        target.summary.SetInParent()
        for _ in objects(summary, "dataPoints"):
            target.summary.data_points.add()


def _fill_point(target: NumberDataPoint, point: dict[str, Any]) -> None:
    target.start_time_unix_nano = integer(point, "startTimeUnixNano", 64)
    target.time_unix_nano = integer(point, "timeUnixNano", 64)
    target.flags = integer(point, "flags", 32)
    target.attributes.extend(attributes_of(point))
    if (number := point.get("asDouble")) is not None:
        target.as_double = double(number, "asDouble")
    elif (number := point.get("asInt")) is not None:
        target.as_int = signed(number, "asInt")
