-- Which requests are looked at span by span, and of which classes (1: tail, 2: typical, 3: both)? Ids as numbers.
SELECT
    reinterpretAsUInt64(substring(trace_id, 1, 8)) AS trace_first,
    reinterpretAsUInt64(substring(trace_id, 9, 8)) AS trace_last,
    reinterpretAsUInt64(span_id) AS span_id,
    any(start_ns) AS start_ns,
    any(duration_ns) AS duration_ns,
    any(weight) AS weight,
    groupBitOr(class) AS class
FROM ({{sampled}})
GROUP BY trace_first, trace_last, span_id
