-- Which traces have an id that begins so? From `low` to `high`, both included, are all ids with a prefix; `padded` is an id of 64
-- bits (Zipkin, older Jaeger) as OTLP writes it. At most `most` of them, in the order of their ids, and how many there are.
SELECT lower(hex(trace_id)) AS id, count() OVER () AS matching
FROM
(
    SELECT DISTINCT s.trace_id AS trace_id FROM spans AS s
    WHERE s.trace_id BETWEEN toFixedString(unhex({low:String}), 16) AND toFixedString(unhex({high:String}), 16)
    UNION DISTINCT
    SELECT DISTINCT s.trace_id AS trace_id FROM spans AS s WHERE s.trace_id = toFixedString(unhex({padded:String}), 16)
)
ORDER BY trace_id
LIMIT {most:UInt32}
