-- What spans does a trace have? A row each; what only readers look at is in trace_details.sql. Ids as numbers.
SELECT
    reinterpretAsUInt64(s.span_id) AS span,
    reinterpretAsUInt64(s.parent_span_id) AS parent,
    toUnixTimestamp64Nano(s.start_time) AS start_ns,
    s.duration_ns AS duration_ns,
    toUInt8({{half}}) AS half,
    {{blocks}} AS blocks,
    s.stage AS stage,
    s.host AS host,
    s.status = 'ERROR' AS failed
FROM spans AS s
WHERE s.trace_id = toFixedString(unhex({trace_id:String}), 16)
ORDER BY {{trace_order}}
LIMIT {max_spans:UInt64}
