-- What is stored of the spans of some traces? Everything; `rows` of them at a time, trace by trace, after the one that is named by
-- its trace, start and id. Those that share the last one's are all there, so that a span which arrived twice is seen to be equal.
-- Maps as lists of their keys and values (a sender may give a key twice), in JSON: what many spans share is read once. The
-- minutes: see within.sql.
SELECT
    lower(hex(s.trace_id)) AS trace_id,
    lower(hex(s.span_id)) AS span_id,
    if(s.parent_span_id = toFixedString('', 8), '', lower(hex(s.parent_span_id))) AS parent_span_id,
    toUnixTimestamp64Milli(s.received_at) AS received_ms,
    toUnixTimestamp64Nano(s.start_time) AS start_ns,
    s.duration_ns AS duration_ns,
    s.service AS service,
    s.stage AS stage,
    s.name AS name,
    s.kind AS kind,
    s.status AS status,
    s.status_message AS status_message,
    s.hardware AS hardware,
    s.host AS host,
    s.region AS region,
    s.environment AS environment,
    s.version AS version,
    s.run AS run,
    s.model AS model,
    s.thread_id AS thread_id,
    s.trace_state AS trace_state,
    s.weight AS weight,
    s.sampling_reason AS sampling_reason,
    s.intended_start_ns AS intended_start_ns,
    toValidUTF8(toJSONString([mapKeys(s.attributes), mapValues(s.attributes),
        mapKeys(s.attribute_types), mapValues(s.attribute_types)])) AS attributes,
    toLowCardinality(toValidUTF8(toJSONString([mapKeys(s.resource), mapValues(s.resource),
        mapKeys(s.resource_types), mapValues(s.resource_types)]))) AS resource,
    toLowCardinality(toValidUTF8(toJSONString([[s.scope_name], [s.scope_version],
        mapKeys(s.scope_attributes), mapValues(s.scope_attributes)]))) AS scope,
    arrayMap(time -> toUnixTimestamp64Nano(time), s.`events.time`) AS event_times,
    if(empty(s.`events.time`), '', toValidUTF8(toJSONString([[s.`events.name`],
        arrayMap(each -> mapKeys(each), s.`events.attributes`), arrayMap(each -> mapValues(each), s.`events.attributes`),
        arrayMap(each -> mapKeys(each), s.`events.attribute_types`),
        arrayMap(each -> mapValues(each), s.`events.attribute_types`)]))) AS events,
    if(empty(s.`links.trace_id`), '', toValidUTF8(toJSONString([
        [arrayMap(id -> lower(hex(id)), s.`links.trace_id`)], [arrayMap(id -> lower(hex(id)), s.`links.span_id`)],
        arrayMap(each -> mapKeys(each), s.`links.attributes`), arrayMap(each -> mapValues(each), s.`links.attributes`),
        arrayMap(each -> mapKeys(each), s.`links.attribute_types`),
        arrayMap(each -> mapValues(each), s.`links.attribute_types`)]))) AS links,
    -- about what it takes in memory, so that fewer are read at a time where they are large
    byteSize(s.name, s.attributes, s.resource, s.scope_attributes, s.`events.name`, s.`events.attributes`,
        s.`links.attributes`) AS size_bytes
FROM spans AS s
WHERE {{export_ids}}
    AND s.start_time >= fromUnixTimestamp64Nano({first_ns:Int64}, 'UTC')
    AND s.start_time <= fromUnixTimestamp64Nano({last_ns:Int64}, 'UTC')
    AND toStartOfMinute(s.start_time) >= toDateTime(greatest(intDiv({first_ns:Int64}, 1000000000) - 60, 0), 'UTC')
    AND toStartOfMinute(s.start_time) <= toDateTime(least(intDiv({last_ns:Int64}, 1000000000), 4294967295), 'UTC')
    AND ({after_trace:String} = '' OR (s.trace_id, toUnixTimestamp64Nano(s.start_time), s.span_id) > (
        toFixedString(unhex({after_trace:String}), 16), {after_ns:Int64}, toFixedString(unhex({after_span:String}), 8)))
ORDER BY s.trace_id, s.start_time, s.span_id
LIMIT {rows:UInt64} WITH TIES
