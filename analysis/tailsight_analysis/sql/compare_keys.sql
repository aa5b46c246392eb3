-- Which attributes do the sampled requests' spans have, that could tell what was asked for? One row a service and key: on
-- how many spans, on how many entry spans, with how many values there, and how many spans have a number. Of every
-- `one_in`th trace.
SELECT
    service, key,
    count() AS spans,
    countIf(is_entry) AS entries,
    uniqUpToIf(50)(value, is_entry) AS entry_values,
    countIf(isNotNull(toFloat64OrNull(value))) AS numbers
FROM
(
    SELECT
        s.service AS service,
        (s.trace_id, s.span_id) IN (SELECT trace_id, span_id FROM ({{sampled}})) AS is_entry,
        tupleElement(pair, 1) AS key,
        tupleElement(pair, 2) AS value
    FROM spans AS s
    ARRAY JOIN CAST(s.attributes, 'Array(Tuple(String, String))') AS pair
    WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}) WHERE cityHash64(trace_id) % {one_in:UInt32} = 0)
)
GROUP BY service, key
ORDER BY service, key
