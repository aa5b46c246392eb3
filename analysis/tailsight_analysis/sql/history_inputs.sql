-- How long are the inputs of each unit of a history, by the keys that may say so? A row a unit and key: on how many spans it is
-- a positive number, and the mean of its logarithm. Of every `one_in`th trace.
SELECT
    place, key, count() AS spans, avg(log(number)) AS mean_log
FROM
(
    SELECT
        {{history_place}} AS place,
        arrayJoin({keys:Array(String)}) AS key,
        toFloat64OrZero(s.attributes[key]) AS number
    FROM spans AS s
    WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        AND cityHash64(s.trace_id) % {one_in:UInt32} = 0
)
WHERE place > 0 AND number > 0 AND isFinite(number)
GROUP BY place, key
ORDER BY place, key
