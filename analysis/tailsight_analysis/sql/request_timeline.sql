-- How does the requests' latency move over time? One row a bucket, buckets counted from the window's start.
SELECT
    intDiv(start_ns - {since_ns:Int64}, {bucket_ns:Int64}) AS bucket,
    count() AS spans,
    quantilesExactInclusive(0.5, 0.99)(duration_ns) AS quantiles_ns,
    countIf(failed) AS errors
FROM ({{requests}})
GROUP BY bucket
ORDER BY bucket
