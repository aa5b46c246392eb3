-- How long do spans take, group by group? Exact quantiles, linearly interpolated. Dimensions not asked for are ''.
SELECT
    if(has({by:Array(String)}, 'stage'), s.stage, '') AS by_stage,
    if(has({by:Array(String)}, 'hardware'), s.hardware, '') AS by_hardware,
    if(has({by:Array(String)}, 'service'), s.service, '') AS by_service,
    if(has({by:Array(String)}, 'version'), s.version, '') AS by_version,
    if(has({by:Array(String)}, 'model'), s.model, '') AS by_model,
    if(has({by:Array(String)}, 'region'), s.region, '') AS by_region,
    if(has({by:Array(String)}, 'host'), s.host, '') AS by_host,
    if(has({by:Array(String)}, 'run'), s.run, '') AS by_run,
    count() AS spans,
    quantilesExactInclusive(0.5, 0.9, 0.95, 0.99, 0.999)(s.duration_ns) AS quantiles_ns,
    max(s.duration_ns) AS max_ns,
    countIf(s.status = 'ERROR') AS errors
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
GROUP BY by_stage, by_hardware, by_service, by_version, by_model, by_region, by_host, by_run
