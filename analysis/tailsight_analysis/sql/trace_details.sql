-- What is there to read about some spans of a trace (`rows`, in the order of trace_spans.sql; none: about all)?
SELECT
    row, name, kind, status, status_message, service, hardware, version, model, region, environment, run,
    attributes, attribute_types, event_times, event_names, event_attributes, event_types,
    link_traces, link_spans, link_attributes, link_types
FROM
(
    SELECT
        row_number() OVER (ORDER BY {{trace_order}}) - 1 AS row,
        s.name AS name,
        s.kind AS kind,
        s.status AS status,
        s.status_message AS status_message,
        s.service AS service,
        s.hardware AS hardware,
        s.version AS version,
        s.model AS model,
        s.region AS region,
        s.environment AS environment,
        s.run AS run,
        s.attributes AS attributes,
        s.attribute_types AS attribute_types,
        arrayMap(time -> toUnixTimestamp64Nano(time), s.`events.time`) AS event_times,
        s.`events.name` AS event_names,
        s.`events.attributes` AS event_attributes,
        s.`events.attribute_types` AS event_types,
        arrayMap(id -> lower(hex(id)), s.`links.trace_id`) AS link_traces,
        arrayMap(id -> lower(hex(id)), s.`links.span_id`) AS link_spans,
        s.`links.attributes` AS link_attributes,
        s.`links.attribute_types` AS link_types
    FROM spans AS s
    WHERE s.trace_id = toFixedString(unhex({trace_id:String}), 16)
)
WHERE empty({rows:Array(UInt64)}) OR has({rows:Array(UInt64)}, toUInt64(row))
ORDER BY row
LIMIT {max_spans:UInt64}
