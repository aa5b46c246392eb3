-- Which runs are in the window and match the filters, when did each begin and end, and what did they run on and with?
SELECT
    s.run AS run,
    count() AS spans,
    toUnixTimestamp64Nano(min(s.start_time)) AS first_ns,
    toUnixTimestamp64Nano(max(s.start_time)) AS last_ns,
    arraySort(arrayFilter(value -> value != '', groupUniqArray(100)(toString(s.hardware)))) AS hardware,
    arraySort(arrayFilter(value -> value != '', groupUniqArray(100)(toString(s.model)))) AS model
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
GROUP BY s.run
ORDER BY first_ns, run
