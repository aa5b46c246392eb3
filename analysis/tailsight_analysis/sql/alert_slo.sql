-- How many requests were there, and how many of them were bad, step by step of time? One row a step that has any, numbered
-- from 1970 on; weighted, and `stored` as they are stored.
SELECT
    intDiv(start_ns, {step_ns:Int64}) AS step,
    sum(weight) AS requests,
    sumIf(weight, ({errors:UInt8} = 1 AND failed) OR ({within_ns:UInt64} > 0 AND duration_ns > {within_ns:UInt64})) AS bad,
    count() AS stored
FROM ({{requests}})
GROUP BY step
