-- Which requests are looked at span by span? Ids as numbers.
SELECT
    class,
    reinterpretAsUInt64(substring(trace_id, 1, 8)) AS trace_first,
    reinterpretAsUInt64(substring(trace_id, 9, 8)) AS trace_last,
    reinterpretAsUInt64(span_id) AS span_id,
    start_ns,
    duration_ns,
    weight
FROM ({{sampled}})
