-- How long do spans take, group by group, where requests were sampled? As breakdown.sql, with each stored span standing for
-- as many as its request's weight says.
SELECT
    by_stage, by_hardware, by_service, by_version, by_model, by_region, by_host, by_run,
    stored, estimated, quantiles_ns, max_ns, errors, beyond
FROM
(
    SELECT
        by_stage, by_hardware, by_service, by_version, by_model, by_region, by_host, by_run,
        {{weighted_latency}}
    FROM
    (
        SELECT
            if(has({by:Array(String)}, 'stage'), s.stage, '') AS by_stage,
            if(has({by:Array(String)}, 'hardware'), s.hardware, '') AS by_hardware,
            if(has({by:Array(String)}, 'service'), s.service, '') AS by_service,
            if(has({by:Array(String)}, 'version'), s.version, '') AS by_version,
            if(has({by:Array(String)}, 'model'), s.model, '') AS by_model,
            if(has({by:Array(String)}, 'region'), s.region, '') AS by_region,
            if(has({by:Array(String)}, 'host'), s.host, '') AS by_host,
            if(has({by:Array(String)}, 'run'), s.run, '') AS by_run,
            groupArray((s.duration_ns, {{span_weight}}, s.status = 'ERROR')) AS latencies
        FROM spans AS s
        LEFT JOIN ({{span_weights}}) AS k
            ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
        WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        GROUP BY by_stage, by_hardware, by_service, by_version, by_model, by_region, by_host, by_run
    )
)
