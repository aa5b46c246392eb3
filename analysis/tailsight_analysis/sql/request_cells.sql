-- How many requests of each length, block by block of time, and for how many do they stand? One row of arrays. Of all
-- requests; or, with `timed` 1 and 2, of those that say when they should have started: their response and service times.
SELECT
    groupArray(code) AS codes,
    groupArray(block) AS blocks,
    groupArray(requests) AS counts,
    groupArray(weight) AS weights,
    groupArray(weight2) AS weights2
FROM
(
    SELECT
        {{cell_block}} AS block,
        {{cell_code}} AS code,
        count() AS requests,
        sum(stands_for) AS weight,
        sum(stands_for * stands_for) AS weight2
    FROM
    (
        SELECT start_ns, if({timed:UInt8} = 1, taken_ns + delay - 1, taken_ns) AS duration_ns, weight AS stands_for
        FROM (SELECT start_ns, duration_ns AS taken_ns, delay, weight FROM ({{requests}}))
        WHERE {timed:UInt8} = 0 OR delay BETWEEN 1 AND 3600000000001
    )
    WHERE block % {stride:UInt8} = 0
    GROUP BY block, code
)
