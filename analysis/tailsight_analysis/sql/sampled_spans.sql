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
    toUInt8({{half}}) AS half,
    s.host AS placed_on,
    {{blocks}} AS blocks,
    {{dimensions}},
    toUInt8({{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})) AS matches
FROM spans AS s
WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
ORDER BY {{sample_key}}, s.trace_id, s.span_id, half, s.start_time, s.duration_ns DESC, s.stage, s.service, s.host
LIMIT {max_spans:UInt64}
