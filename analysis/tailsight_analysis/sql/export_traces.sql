-- Which traces are exported, when do they begin and end, and how many spans have they? Those with a span of the service that
-- starts in the window, and a span that matches all other filters: each trace that has a request of sql/requests.sql is among
-- them. Spans as they are stored, also where one is there twice. In the order of their first spans; ids as numbers.
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
    WHERE {{around}}
        AND s.trace_id IN (
            SELECT s.trace_id FROM spans AS s
            WHERE {{within}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)}))
        AND ({{unfiltered}} OR s.trace_id IN (
            SELECT s.trace_id FROM spans AS s WHERE NOT {{unfiltered}} AND {{around}} AND {{filters}}))
    GROUP BY s.trace_id
)
ORDER BY begins, trace_id
