-- How do the stages' latencies move over time, where requests were sampled? As stage_timeline.sql, weighted.
SELECT
    bucket, stage,
    stored, estimated, quantiles_ns, max_ns, errors, beyond
FROM
(
    SELECT
        bucket, stage,
        {{weighted_latency}}
    FROM
    (
        SELECT
            intDiv(toUnixTimestamp64Nano(s.start_time) - {since_ns:Int64}, {bucket_ns:Int64}) AS bucket,
            s.stage AS stage,
            groupArray((s.duration_ns, {{span_weight}}, s.status = 'ERROR')) AS latencies
        FROM spans AS s
        LEFT JOIN ({{span_weights}}) AS k
            ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
        WHERE {{within}} AND s.stage != ''
            AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        GROUP BY bucket, stage
    )
)
ORDER BY bucket, stage
