-- When did the first and the last span start, of all or of some runs?
SELECT
    count() AS spans,
    toUnixTimestamp64Nano(min(s.start_time)) AS first_ns,
    toUnixTimestamp64Nano(max(s.start_time)) AS last_ns
FROM spans AS s
WHERE empty({run:Array(String)}) OR s.run IN {run:Array(String)}
