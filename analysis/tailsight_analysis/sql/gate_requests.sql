-- How many requests of each length, block by block of time, for each kind of request: what was asked (the root's operation),
-- and the models and the hardware that its trace names? One row a kind, with its cells as arrays.
SELECT
    operation, models, types,
    groupArray(code) AS codes,
    groupArray(block) AS blocks,
    groupArray(requests) AS counts,
    groupArray(weight) AS weights,
    groupArray(weight2) AS weights2
FROM
(
    SELECT
        operation, models, types,
        {{cell_block}} AS block,
        {{cell_code}} AS code,
        count() AS requests,
        sum(stands_for) AS weight,
        sum(stands_for * stands_for) AS weight2
    FROM
    (
        SELECT r.start_ns AS start_ns, r.duration_ns AS duration_ns, r.stands_for AS stands_for, t.operation AS operation,
            t.models AS models, t.types AS types
        FROM (SELECT trace_id, start_ns, duration_ns, weight AS stands_for FROM ({{requests}})) AS r
        LEFT JOIN
        (
            SELECT
                s.trace_id AS trace_id,
                anyIf(s.name, s.parent_span_id = toFixedString('', 8)) AS operation,
                arrayStringConcat(arraySort(arrayFilter(value -> value != '', groupUniqArray(20)(toString(s.model)))), ', ') AS models,
                arrayStringConcat(arraySort(arrayFilter(value -> value != '', groupUniqArray(20)(toString(s.hardware)))), ', ') AS types
            FROM spans AS s
            WHERE {{around}}
            GROUP BY s.trace_id
        ) AS t ON r.trace_id = t.trace_id
    )
    WHERE block % {stride:UInt8} = 0
    GROUP BY operation, models, types, block, code
)
GROUP BY operation, models, types
