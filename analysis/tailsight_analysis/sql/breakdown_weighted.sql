-- How long do spans take, group by group, where requests were sampled? As breakdown.sql, with each stored span standing for
-- as many as its request's weight says.
SELECT
    by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run,
    stored, estimated, quantiles_ns, max_ns, errors, beyond, first_ns, last_ns
FROM
(
    SELECT
        by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run,
        first_ns, last_ns,
        {{weighted_latency}}
    FROM
    (
        SELECT
            {{dimensions}},
            groupArray((s.duration_ns, {{span_weight}}, s.status = 'ERROR')) AS latencies,
            toUnixTimestamp64Nano(min(s.start_time)) AS first_ns,
            toUnixTimestamp64Nano(max(s.start_time)) AS last_ns
        FROM spans AS s
        LEFT JOIN ({{span_weights}}) AS k
            ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
        WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        GROUP BY by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run
    )
)
