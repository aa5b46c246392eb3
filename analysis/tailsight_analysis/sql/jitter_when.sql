-- When do spans start? A row a bucket of time that has any, buckets counted from the window's start.
SELECT intDiv(toUnixTimestamp64Nano(s.start_time) - {since_ns:Int64}, {bucket_ns:Int64}) AS bucket, count() AS spans
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
GROUP BY bucket
ORDER BY bucket
