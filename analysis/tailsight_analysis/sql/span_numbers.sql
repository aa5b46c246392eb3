-- Which numbers do the spans of the sampled requests' traces carry under these keys? A row a span and key (its number in
-- `keys`, from 1), yes and no as 1 and 0; rows of a trace stand together. Ids as numbers.
SELECT
    trace_first, trace_last, span,
    tupleElement(pair, 1) AS key,
    tupleElement(pair, 2) AS value
FROM
(
    SELECT
        reinterpretAsUInt64(substring(s.trace_id, 1, 8)) AS trace_first,
        reinterpretAsUInt64(substring(s.trace_id, 9, 8)) AS trace_last,
        reinterpretAsUInt64(s.span_id) AS span,
        arrayFilter(p -> isFinite(tupleElement(p, 2)), arrayMap(
            (value, number, place) -> (toUInt16(place), multiIf(lower(value) = 'true', 1., lower(value) = 'false', 0., number)),
            arrayMap(key -> s.attributes[key], {keys:Array(String)}) AS texts,
            arrayMap({{number}}, texts),
            arrayEnumerate(texts))) AS pairs
    FROM spans AS s
    WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
)
ARRAY JOIN pairs AS pair
ORDER BY trace_first, trace_last
