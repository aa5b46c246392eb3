-- How does the requests' latency move over time, where they were sampled? As request_timeline.sql, weighted.
SELECT
    bucket,
    stored, estimated, quantiles_ns, max_ns, errors, beyond
FROM
(
    SELECT
        bucket,
        {{weighted_latency}}
    FROM
    (
        SELECT
            intDiv(start_ns - {since_ns:Int64}, {bucket_ns:Int64}) AS bucket,
            groupArray((duration_ns, weight, failed)) AS latencies
        FROM ({{requests}})
        GROUP BY bucket
    )
)
ORDER BY bucket
