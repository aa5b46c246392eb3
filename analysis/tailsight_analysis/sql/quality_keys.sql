-- Under which keys do the sampled requests' spans carry numbers whose names speak of quality? In how many traces each?
SELECT key, uniqExact(trace_id) AS traces
FROM
(
    SELECT s.trace_id AS trace_id, tupleElement(pair, 1) AS key
    FROM spans AS s
    ARRAY JOIN arrayFilter(
        p -> match(tupleElement(p, 1), {pattern:String})
            AND (isNotNull(toFloat64OrNull(tupleElement(p, 2))) OR lower(tupleElement(p, 2)) IN ('true', 'false')),
        CAST(s.attributes, 'Array(Tuple(String, String))')) AS pair
    WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
)
GROUP BY key
ORDER BY traces DESC, key
LIMIT 20
