-- Which versions, runs or stretches of time does the window have? A row each, with the first and last start of its spans, and
-- at most a hundred versions and runs that were seen in it, in the order in which they came.
SELECT
    unit,
    min(first) AS first_ns,
    max(last) AS last_ns,
    sum(spans_seen) AS spans,
    arrayMap(pair -> tupleElement(pair, 2), arraySlice(arraySort(groupArray((first, version))), 1, 100)) AS versions,
    arrayMap(pair -> tupleElement(pair, 2), arraySlice(arraySort(groupArray((first, run))), 1, 100)) AS runs
FROM
(
    SELECT
        {{history_unit}} AS unit,
        toString(s.version) AS version,
        toString(s.run) AS run,
        toUnixTimestamp64Nano(min(s.start_time)) AS first,
        toUnixTimestamp64Nano(max(s.start_time)) AS last,
        count() AS spans_seen
    FROM spans AS s
    WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    GROUP BY unit, version, run
)
WHERE unit != ''
GROUP BY unit
ORDER BY first_ns, unit
