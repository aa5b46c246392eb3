-- What spans do the traces of the sampled requests have? Whole traces one after another, in the order of the sample, so
-- that a limit cuts off whole traces and at most one in the middle. Ids as numbers, columns not asked for as ''.
-- Spans with one id stand in the order that makes each the child of the one before (see docs/analysis/requests.md).
SELECT
    reinterpretAsUInt64(substring(s.trace_id, 1, 8)) AS trace_first,
    reinterpretAsUInt64(substring(s.trace_id, 9, 8)) AS trace_last,
    reinterpretAsUInt64(s.span_id) AS span,
    reinterpretAsUInt64(s.parent_span_id) AS parent,
    toUnixTimestamp64Nano(s.start_time) AS start_ns,
    s.duration_ns AS duration_ns,
    toUInt8(multiIf(s.kind IN ('CLIENT', 'PRODUCER'), 0, s.kind IN ('SERVER', 'CONSUMER'), 2, 1)) AS half,
    s.host AS placed_on,
    -- a parent does not wait for who consumes what it produced, nor for what says that it only follows from it
    toUInt8(s.kind != 'CONSUMER' AND NOT arrayExists(
        (id, attributes) -> id = s.parent_span_id AND lower(attributes['opentracing.ref_type']) = 'follows_from',
        s.links.span_id, s.links.attributes)) AS blocks,
    if(has({by:Array(String)}, 'stage'), s.stage, '') AS by_stage,
    if(has({by:Array(String)}, 'hardware'), s.hardware, '') AS by_hardware,
    if(has({by:Array(String)}, 'service'), s.service, '') AS by_service,
    if(has({by:Array(String)}, 'name'), s.name, '') AS by_name,
    if(has({by:Array(String)}, 'version'), s.version, '') AS by_version,
    if(has({by:Array(String)}, 'model'), s.model, '') AS by_model,
    if(has({by:Array(String)}, 'region'), s.region, '') AS by_region,
    if(has({by:Array(String)}, 'host'), s.host, '') AS by_host,
    if(has({by:Array(String)}, 'run'), s.run, '') AS by_run,
    toUInt8({{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})) AS matches
FROM spans AS s
WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
ORDER BY {{sample_key}}, s.trace_id, s.span_id, half, s.start_time, s.duration_ns DESC, s.stage, s.service, s.host
LIMIT {max_spans:UInt64}
