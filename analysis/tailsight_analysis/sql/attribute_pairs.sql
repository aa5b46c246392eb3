-- Which attribute values do requests have, and how many sampled requests of each class? A pair counts once a trace,
-- wherever in it. Columns stand under their own name; the keys that they came from, and keys that name a thread, a process
-- or the SDK, are left out. Pairs of one request only are not tested; of the rest, those of at least two tail requests
-- are returned, with the number of all that are tested.
SELECT key, value, tail_requests, typical_requests, tests
FROM
(
    SELECT
        key, value,
        sum(weights.tail) AS tail_requests,
        sum(weights.typical) AS typical_requests,
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
        WHERE {{around}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
    ) AS pairs
    INNER JOIN
    (
        SELECT trace_id, countIf(class = 1) AS tail, countIf(class = 2) AS typical FROM ({{sampled}}) GROUP BY trace_id
    ) AS weights USING trace_id
    GROUP BY key, value
    HAVING tail_requests + typical_requests >= 2
)
WHERE tail_requests >= 2
