-- Which stages on which hardware have spans, how many, and from when to when do they start? `code` names a pair in
-- jitter_spans.sql.
SELECT
    s.stage AS stage,
    s.hardware AS hardware,
    cityHash64(s.stage, s.hardware) AS code,
    count() AS spans,
    toUnixTimestamp64Nano(min(s.start_time)) AS first_ns,
    toUnixTimestamp64Nano(max(s.start_time)) AS last_ns
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
GROUP BY stage, hardware, code
ORDER BY stage, hardware
