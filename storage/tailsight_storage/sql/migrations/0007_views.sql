-- The targets come first, this chain last: otlp_traces_in → span_arrivals → spans → stage_latency_1m, and
-- span_arrivals → rejected_spans.

-- Why can a span not be stored? The collector gives its clients the same answer (tailsight_collector/receive/checks.py), and a
-- test holds the two together. A day ahead is measured from arrival.
CREATE OR REPLACE FUNCTION tailsight_rejection AS (trace_id, span_id, parent_span_id, start_ns, end_ns, received_ns) -> multiIf(
    length(trace_id) != 16, 'trace_id_length',
    trace_id = unhex('00000000000000000000000000000000'), 'trace_id_zero',
    length(span_id) != 8, 'span_id_length',
    span_id = unhex('0000000000000000'), 'span_id_zero',
    length(parent_span_id) NOT IN (0, 8), 'parent_span_id_length',
    end_ns < start_ns, 'end_before_start',
    start_ns < 946684800000000000, 'before_2000',
    end_ns > received_ns + 86400000000000, 'in_the_future',
    '');

CREATE MATERIALIZED VIEW IF NOT EXISTS otlp_traces_flat TO span_arrivals AS
SELECT
    fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC') AS received_at,
    tailsight_rejection(span.trace_id, span.span_id, span.parent_span_id,
        span.start_time_unix_nano, span.end_time_unix_nano, received_ns) AS reason,
    span.trace_id AS trace_id,
    span.span_id AS span_id,
    span.parent_span_id AS parent_span_id,
    span.start_time_unix_nano AS start_time_unix_nano,
    span.end_time_unix_nano AS end_time_unix_nano,
    span.name AS name,
    span.kind AS kind,
    span.status.code AS status_code,
    span.status.message AS status_message,
    span.trace_state AS trace_state,
    tailsight_attribute_texts(span.attributes) AS attributes,
    tailsight_attribute_types(span.attributes) AS attribute_types,
    resource,
    resource_types,
    scope_name,
    scope_version,
    scope_attributes,
    arrayMap(e -> fromUnixTimestamp64Nano(toInt64(e.time_unix_nano), 'UTC'), span.events) AS `events.time`,
    CAST(arrayMap(e -> e.name, span.events), 'Array(LowCardinality(String))') AS `events.name`,
    arrayMap(e -> tailsight_attribute_texts(e.attributes), span.events) AS `events.attributes`,
    arrayMap(e -> tailsight_attribute_types(e.attributes), span.events) AS `events.attribute_types`,
    -- a link whose ids are wrong cannot be followed; its ids become zeros, the span itself stays
    arrayMap(l -> toFixedString(if(length(l.trace_id) = 16, l.trace_id, ''), 16), span.links) AS `links.trace_id`,
    arrayMap(l -> toFixedString(if(length(l.span_id) = 8, l.span_id, ''), 8), span.links) AS `links.span_id`,
    arrayMap(l -> tailsight_attribute_texts(l.attributes), span.links) AS `links.attributes`,
    arrayMap(l -> tailsight_attribute_types(l.attributes), span.links) AS `links.attribute_types`
FROM
(
    SELECT
        received_ns,
        resource,
        resource_types,
        toLowCardinality(scope_spans.scope.name) AS scope_name,
        toLowCardinality(scope_spans.scope.version) AS scope_version,
        tailsight_attribute_texts(scope_spans.scope.attributes) AS scope_attributes,
        arrayJoin(scope_spans.spans) AS span
    FROM
    (
        SELECT
            received_ns,
            tailsight_attribute_texts(resource_spans.resource.attributes) AS resource,
            tailsight_attribute_types(resource_spans.resource.attributes) AS resource_types,
            arrayJoin(resource_spans.scope_spans) AS scope_spans
        FROM
        (
            SELECT
                -- who inserts here without the collector's stamp gets the time of the insert
                if(received_unix_nano = 0, toUInt64(toUnixTimestamp64Nano(now64(9))), received_unix_nano) AS received_ns,
                arrayJoin(resource_spans) AS resource_spans
            FROM otlp_traces_in
        )
    )
);

-- The stage rules: which column gets its value from which attribute. The span's own word comes before its resource's.
CREATE MATERIALIZED VIEW IF NOT EXISTS spans_from_arrivals TO spans AS
SELECT
    received_at,
    fromUnixTimestamp64Nano(toInt64(start_time_unix_nano), 'UTC') AS start_time,
    end_time_unix_nano - start_time_unix_nano AS duration_ns,
    toFixedString(if(length(trace_id) = 16, trace_id, ''), 16) AS trace_id,
    toFixedString(if(length(span_id) = 8, span_id, ''), 8) AS span_id,
    toFixedString(if(length(parent_span_id) = 8, parent_span_id, ''), 8) AS parent_span_id,
    resource['service.name'] AS service,
    attributes['tailsight.stage'] AS stage,
    name,
    transform(kind, [1, 2, 3, 4, 5], ['INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'], 'UNSPECIFIED') AS kind,
    transform(status_code, [1, 2], ['OK', 'ERROR'], 'UNSET') AS status,
    status_message,
    coalesce(nullIf(attributes['tailsight.hardware'], ''), resource['tailsight.hardware']) AS hardware,
    resource['host.name'] AS host,
    resource['cloud.region'] AS region,
    coalesce(nullIf(resource['deployment.environment.name'], ''), resource['deployment.environment']) AS environment,
    resource['service.version'] AS version,
    resource['tailsight.run'] AS run,
    coalesce(nullIf(attributes['tailsight.model'], ''), nullIf(attributes['gen_ai.request.model'], ''),
        nullIf(attributes['gen_ai.response.model'], ''), resource['tailsight.model']) AS model,
    toUInt64OrZero(attributes['thread.id']) AS thread_id,
    trace_state,
    attributes,
    attribute_types,
    resource,
    resource_types,
    scope_name,
    scope_version,
    scope_attributes,
    events.time,
    events.name,
    events.attributes,
    events.attribute_types,
    links.trace_id,
    links.span_id,
    links.attributes,
    links.attribute_types
FROM span_arrivals
WHERE reason = '';

CREATE MATERIALIZED VIEW IF NOT EXISTS rejected_spans_from_arrivals TO rejected_spans AS
SELECT
    received_at,
    reason,
    resource['service.name'] AS service,
    name,
    lower(hex(trace_id)) AS trace_id_hex,
    lower(hex(span_id)) AS span_id_hex,
    lower(hex(parent_span_id)) AS parent_span_id_hex,
    start_time_unix_nano,
    end_time_unix_nano,
    attributes,
    resource
FROM span_arrivals
WHERE reason != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS stage_latency_1m_from_spans TO stage_latency_1m AS
SELECT
    toDate(received_at) AS received_date,
    toStartOfMinute(start_time) AS minute,
    stage, service, hardware, version, model, region, environment, host, run,
    count() AS spans,
    countIf(status = 'ERROR') AS errors,
    sum(duration_ns) AS duration_sum_ns,
    max(duration_ns) AS duration_max_ns,
    quantilesDDState(0.01, 0.5, 0.9, 0.95, 0.99, 0.999)(duration_ns) AS duration_quantiles
FROM spans
GROUP BY received_date, minute, stage, service, hardware, version, model, region, environment, host, run;
