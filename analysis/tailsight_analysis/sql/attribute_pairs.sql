-- Which attribute values do requests have, and how many sampled requests of each class? A pair counts once a trace,
-- wherever in it. Columns stand under their own name; the keys that they came from, and keys that name a thread, a process
-- or the SDK, are left out. Pairs of one request only are not tested; of the rest, those of at least two tail requests
-- are returned, with the number of all that are tested. Where requests have weights, so do the pairs: their sum and the
-- sum of their squares in each class.
SELECT key, value, tail_requests, typical_requests, tests, tail_weight, tail_weight2, typical_weight, typical_weight2
FROM
(
    SELECT
        key, value,
        sum(weights.tail) AS tail_requests,
        sum(weights.typical) AS typical_requests,
        if({weighted:UInt8} = 1, sum(weights.tail_weight), 0.) AS tail_weight,
        if({weighted:UInt8} = 1, sum(weights.tail_weight2), 0.) AS tail_weight2,
        if({weighted:UInt8} = 1, sum(weights.typical_weight), 0.) AS typical_weight,
        if({weighted:UInt8} = 1, sum(weights.typical_weight2), 0.) AS typical_weight2,
        count() OVER () AS tests
    FROM
    (
        SELECT DISTINCT s.trace_id AS trace_id, tupleElement(pair, 1) AS key, tupleElement(pair, 2) AS value
        FROM spans AS s
        ARRAY JOIN arrayFilter(p -> tupleElement(p, 2) != '', arrayConcat(
            arrayFilter(p -> NOT has({promoted:Array(String)}, tupleElement(p, 1)),
                CAST(s.attributes, 'Array(Tuple(String, String))')),
            arrayFilter(p -> NOT has({promoted:Array(String)}, tupleElement(p, 1)),
                CAST(s.resource, 'Array(Tuple(String, String))')),
            [('service', s.service), ('hardware', s.hardware), ('host', s.host), ('region', s.region),
                ('environment', s.environment), ('version', s.version), ('model', s.model)])) AS pair
        WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
    ) AS pairs
    INNER JOIN
    (
        SELECT
            trace_id,
            countIf(class = 1) AS tail,
            countIf(class = 2) AS typical,
            sumIf(weight, class = 1) AS tail_weight,
            sumIf(weight * weight, class = 1) AS tail_weight2,
            sumIf(weight, class = 2) AS typical_weight,
            sumIf(weight * weight, class = 2) AS typical_weight2
        FROM ({{sampled}})
        GROUP BY trace_id
    ) AS weights USING trace_id
    GROUP BY key, value
    HAVING tail_requests + typical_requests >= 2
)
WHERE tail_requests >= 2
