-- How long does each request take, one after another, and what does its entry span say of its deadline?
SELECT
    toUInt64(0) AS code,
    toUInt64(0) AS stream,
    r.start_ns AS start_ns,
    r.duration_ns AS duration_ns,
    r.weight AS weight,
    if(e.found, e.deadline_ms, nan) AS deadline_ms,
    if(e.found, e.gap_p50_ms, nan) AS gap_p50_ms,
    if(e.found, e.gap_p99_ms, nan) AS gap_p99_ms,
    if(e.found, e.gap_max_ms, nan) AS gap_max_ms
FROM ({{requests}}) AS r
LEFT JOIN
(
    SELECT
        s.trace_id AS trace_id,
        s.span_id AS span_id,
        toUnixTimestamp64Nano(s.start_time) AS start_ns,
        s.duration_ns AS duration_ns,
        1 AS found,
        {{jitter_attributes}}
    FROM spans AS s
    WHERE {{within}} AND (mapContains(s.attributes, 'tailsight.deadline_ms')
        OR mapContains(s.attributes, 'tailsight.stream.gap_p99_ms'))
    LIMIT 1 BY trace_id, span_id, start_ns, duration_ns
) AS e ON r.trace_id = e.trace_id AND r.span_id = e.span_id AND r.start_ns = e.start_ns AND r.duration_ns = e.duration_ns
ORDER BY r.start_ns, r.trace_id, r.span_id
