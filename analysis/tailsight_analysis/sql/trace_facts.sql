-- What do the traces of sampled requests say of themselves, and where? One row a value of a key on the spans of one stage
-- of one service, with the traces that have it. Columns stand under their own name; the keys that they came from, and keys
-- that name a thread, a process or the SDK, are left out, and values that one trace only has,
-- unless they are numbers, or asked for (`keep_rare`).
-- The key '' stands for the spans themselves: its traces have such spans. What all of these have lists none (`all_of_place`).
SELECT
    service, stage, key, value,
    toUInt8(key != '' AND holders = in_place) AS all_of_place,
    if(all_of_place = 1, [], traces) AS traces
FROM
(
    SELECT
        service, stage, tupleElement(pair, 1) AS key, tupleElement(pair, 2) AS value,
        groupUniqArray(trace) AS traces,
        length(traces) AS holders,
        max(holders) OVER (PARTITION BY service, stage) AS in_place,
        sum(holders) OVER (PARTITION BY key, value) AS together
    FROM
    (
        SELECT
            s.service AS service,
            s.stage AS stage,
            bitXor(reinterpretAsUInt64(substring(s.trace_id, 1, 8)),
                reinterpretAsUInt64(substring(s.trace_id, 9, 8)) * toUInt64(11400714819323198485)) AS trace,
            arrayJoin(arrayPushBack(
                arrayFilter(p -> tupleElement(p, 2) != '', arrayConcat(
                    arrayFilter(p -> NOT has({promoted:Array(String)}, tupleElement(p, 1)),
                        CAST(s.attributes, 'Array(Tuple(String, String))')),
                    arrayFilter(p -> NOT has({promoted:Array(String)}, tupleElement(p, 1)),
                        CAST(s.resource, 'Array(Tuple(String, String))')),
                    [('service', s.service), ('hardware', s.hardware), ('host', s.host), ('region', s.region),
                        ('environment', s.environment), ('version', s.version), ('model', s.model)])),
                ('', ''))) AS pair
        FROM spans AS s
        WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
    )
    GROUP BY service, stage, key, value
)
WHERE {keep_rare:UInt8} = 1 OR together >= 2 OR key = '' OR isFinite(toFloat64OrNull(value))
