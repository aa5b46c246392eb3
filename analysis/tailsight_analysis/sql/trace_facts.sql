-- What do the traces of sampled requests say of themselves, and where? One row a value of a key on the spans of one stage
-- of one service, with the traces that have it. Columns stand under their own name; the keys that they came from, and keys
-- that name a thread, a process or the SDK, are left out. Values that one trace only has are left out too, but for numbers:
-- these stand in one row a key, with their traces in the same order (`numbers`). With `keep_rare` each value has its row.
-- The key '' stands for the spans themselves: its traces have such spans. What all of these have lists none (`all_of_place`).
SELECT
    service, stage, key,
    if(is_number, '', value) AS shown,
    all_of_place,
    groupArrayArray(listed) AS traces,
    groupArrayIf(ifNull(number, 0.), is_number) AS numbers
FROM
(
    SELECT
        service, stage, tupleElement(pair, 1) AS key, tupleElement(pair, 2) AS value,
        groupUniqArray(trace) AS traces,
        length(traces) AS holders,
        toFloat64OrNull(value) AS number,
        {keep_rare:UInt8} = 0 AND holders = 1 AND key != '' AND ifNull(isFinite(number), 0) AS is_number,
        max(holders) OVER (PARTITION BY service, stage) AS in_place,
        sum(holders) OVER (PARTITION BY key, value) AS together,
        toUInt8(key != '' AND NOT is_number AND holders = in_place) AS all_of_place,
        if(all_of_place = 1, [], traces) AS listed
    FROM
    (
        SELECT
            s.service AS service,
            s.stage AS stage,
            bitXor(reinterpretAsUInt64(substring(s.trace_id, 1, 8)) * toUInt64(11400714819323198485),
                byteSwap(reinterpretAsUInt64(substring(s.trace_id, 9, 8)) * toUInt64(11400714819323198485))) AS trace,
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
WHERE {keep_rare:UInt8} = 1 OR together >= 2 OR key = '' OR is_number
GROUP BY service, stage, key, shown, all_of_place, is_number
