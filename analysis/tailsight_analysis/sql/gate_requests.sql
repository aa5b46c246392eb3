-- How many requests of each length, run by run and block by block of its time, for each kind of request: what was asked (the
-- root's operation), the models and the hardware that its trace names, and how long its input was? A row a cell. A request is
-- of each run that a span of its trace names.
SELECT
    place,
    kind,
    any(toLowCardinality(operation)) AS name,
    any(toLowCardinality(models)) AS model,
    any(toLowCardinality(types)) AS hardware,
    step,
    {{history_block}} AS block,
    {{history_code}} AS code,
    toInt64(count()) AS counts,
    sum(stands_for) AS weights,
    sum(stands_for * stands_for) AS weights2
FROM
(
    SELECT
        arrayJoin(t.places) AS place,
        r.start_ns AS start_ns, r.duration_ns AS duration_ns, r.weight AS stands_for,
        t.operation AS operation, t.models AS models, t.types AS types,
        t.step AS step, cityHash64(t.operation, t.models, t.types) AS kind
    FROM
    (
        SELECT
            s.trace_id AS trace_id,
            groupUniqArrayIf({{gate_place}}, {{gate_place}} > 0 AND {{filters}}) AS places,
            -- of several roots always the same
            minIf(s.name, s.parent_span_id = toFixedString('', 8)) AS operation,
            arrayStringConcat(arraySort(arrayFilter(value -> value != '', groupUniqArray(20)(toString(s.model)))), ', ') AS models,
            arrayStringConcat(arraySort(arrayFilter(value -> value != '', groupUniqArray(20)(toString(s.hardware)))), ', ') AS types,
            {{gate_step}} AS step
        FROM spans AS s
        WHERE {{around}}
        GROUP BY s.trace_id
    ) AS t
    -- the narrower of both on the right, where it is kept in memory
    INNER JOIN ({{requests}}) AS r ON r.trace_id = t.trace_id
)
WHERE start_ns BETWEEN {units_first_ns:Array(Int64)}[place] AND {units_last_ns:Array(Int64)}[place]
GROUP BY place, kind, step, block, code
