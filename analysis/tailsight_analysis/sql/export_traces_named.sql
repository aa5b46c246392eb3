-- When do these traces begin and end, wherever they are in the store, and how many spans have they? As export_traces.sql.
SELECT
    reinterpretAsUInt64(substring(trace_id, 1, 8)) AS trace_first,
    reinterpretAsUInt64(substring(trace_id, 9, 8)) AS trace_last,
    toUnixTimestamp64Nano(begins) AS first_ns,
    toUnixTimestamp64Nano(ends) AS last_ns,
    spans
FROM
(
    SELECT s.trace_id AS trace_id, min(s.start_time) AS begins, max(s.start_time) AS ends, count() AS spans
    FROM spans AS s
    WHERE {{export_ids}}
    GROUP BY s.trace_id
)
ORDER BY begins, trace_id
