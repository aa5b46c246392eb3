-- How long do the requests take, at which quantiles, and how many fail? One row. Quantiles are linearly interpolated.
SELECT
    count() AS requests,
    quantilesExactInclusive(0.5, 0.9, 0.95, 0.99, 0.999)(duration_ns) AS quantiles_ns,
    max(duration_ns) AS max_ns,
    countIf(failed) AS errors
FROM ({{requests}})
