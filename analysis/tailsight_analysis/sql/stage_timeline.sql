-- How do the stages' latencies move over time? One row a bucket and stage, buckets counted from the window's start.
SELECT
    intDiv(toUnixTimestamp64Nano(s.start_time) - {since_ns:Int64}, {bucket_ns:Int64}) AS bucket,
    s.stage AS stage,
    count() AS spans,
    quantilesExactInclusive(0.5, 0.99)(s.duration_ns) AS quantiles_ns,
    countIf(s.status = 'ERROR') AS errors
FROM spans AS s
WHERE {{within}} AND s.stage != ''
    AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
GROUP BY bucket, stage
ORDER BY bucket, stage
