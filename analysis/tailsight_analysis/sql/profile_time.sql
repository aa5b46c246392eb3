-- From when to when are there samples of stacks? One row; of these runs, or of all.
SELECT
    count() AS samples,
    toUnixTimestamp64Nano(min(s.time)) AS first_ns,
    toUnixTimestamp64Nano(max(s.time)) AS last_ns
FROM profile_samples AS s
WHERE empty({run:Array(String)}) OR s.run IN {run:Array(String)}
