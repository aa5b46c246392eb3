-- How long do the requests take, at which quantiles, and how many fail, where they were sampled? As request_summary.sql, each
-- stored request standing for as many as its weight says. No row without requests.
SELECT
    stored, estimated, quantiles_ns, max_ns, errors, beyond, cuts_ns,
    arrayCount(d -> d >= cuts_ns[1], sorted_ns) AS stored_tail,
    arrayCount(d -> d BETWEEN cuts_ns[2] AND cuts_ns[3], sorted_ns) AS stored_typical,
    arraySum((d, w) -> if(d >= cuts_ns[1], w, 0), sorted_ns, weights) AS tail_requests,
    arraySum((d, w) -> if(d BETWEEN cuts_ns[2] AND cuts_ns[3], w, 0), sorted_ns, weights) AS typical_requests
FROM
(
    SELECT
        stored, estimated, quantiles_ns, max_ns, errors, beyond, sorted_ns, weights,
        [{quantile:Float64}, 0.4, 0.6] AS levels,
        arrayMap(cut -> toUInt64(round(cut)), {{weighted_quantiles}}) AS cuts_ns
    FROM
    (
        SELECT {{weighted_latency}}
        FROM (SELECT groupArray((duration_ns, weight, failed)) AS latencies FROM ({{requests}}))
        WHERE notEmpty(latencies)
    )
)
