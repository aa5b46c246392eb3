-- How many requests were there, and how many of them were bad, in each of several windows that end together? One row of
-- arrays, in the order of the windows' starts; weighted, and `stored` as they are stored.
SELECT
    sumForEach(arrayMap(from -> if(start_ns >= from, weight, 0.), {starts_ns:Array(Int64)})) AS requests,
    sumForEach(arrayMap(from -> if(start_ns >= from AND bad, weight, 0.), {starts_ns:Array(Int64)})) AS bad_requests,
    sumForEach(arrayMap(from -> toUInt64(start_ns >= from), {starts_ns:Array(Int64)})) AS stored
FROM
(
    SELECT
        start_ns,
        weight,
        ({errors:UInt8} = 1 AND failed) OR ({within_ns:UInt64} > 0 AND duration_ns > {within_ns:UInt64}) AS bad
    FROM ({{requests}})
)
