-- How long do spans take, group by group? Exact quantiles, linearly interpolated. Dimensions not asked for are ''. Also when
-- the first and the last of them started.
SELECT
    {{dimensions}},
    count() AS spans,
    quantilesExactInclusive(0.5, 0.9, 0.95, 0.99, 0.999)(s.duration_ns) AS quantiles_ns,
    max(s.duration_ns) AS max_ns,
    countIf(s.status = 'ERROR') AS errors,
    toUnixTimestamp64Nano(min(s.start_time)) AS first_ns,
    toUnixTimestamp64Nano(max(s.start_time)) AS last_ns
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
GROUP BY by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run
