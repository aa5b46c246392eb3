-- How long do the requests take, at which quantiles, and how many fail? How many are in the tail, how many are typical?
-- One row. Quantiles are linearly interpolated; `cuts_ns` are {quantile}, p40 and p60, rounded to whole nanoseconds.
SELECT
    requests, quantiles_ns, max_ns, errors, cuts_ns,
    arrayCount(d -> d >= cuts_ns[1], durations_ns) AS tail_requests,
    arrayCount(d -> d BETWEEN cuts_ns[2] AND cuts_ns[3], durations_ns) AS typical_requests
FROM
(
    SELECT
        count() AS requests,
        -- in one: each state of this function holds all durations
        quantilesExactInclusive(0.5, 0.9, 0.95, 0.99, 0.999, {quantile:Float64}, 0.4, 0.6)(duration_ns) AS all_ns,
        arraySlice(all_ns, 1, 5) AS quantiles_ns,
        max(duration_ns) AS max_ns,
        countIf(failed) AS errors,
        arrayMap(cut -> if(isNaN(cut), 0, toUInt64(round(cut))), arraySlice(all_ns, 6)) AS cuts_ns,
        groupArray(duration_ns) AS durations_ns
    FROM ({{requests}})
)
