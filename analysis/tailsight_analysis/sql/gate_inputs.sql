-- By which keys do traces say how long their input is? A row a key: how many traces do, of how many. Of every `one_in`th trace.
SELECT
    tupleElement(pair, 1) AS key,
    tupleElement(pair, 2) AS traces,
    whole
FROM
(
    SELECT
        sumMap(keys, arrayResize([toUInt64(1)], length(keys), toUInt64(1))) AS counted,
        count() AS whole
    FROM
    (
        SELECT groupUniqArrayArray(arrayFilter(key -> arrayMap({{number}}, [s.attributes[key]])[1] > 0,
            arrayIntersect({keys:Array(String)}, CAST(mapKeys(s.attributes), 'Array(String)')))) AS keys
        FROM spans AS s
        WHERE {{around}} AND cityHash64(s.trace_id) % {one_in:UInt32} = 0
        GROUP BY s.trace_id
    )
)
ARRAY JOIN arrayZip(tupleElement(counted, 1), tupleElement(counted, 2)) AS pair
