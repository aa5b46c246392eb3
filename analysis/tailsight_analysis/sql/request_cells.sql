-- How many requests of each length, block by block of time, and for how many do they stand? One row of arrays.
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
    FROM (SELECT start_ns, duration_ns, weight AS stands_for FROM ({{requests}}))
    WHERE block % {stride:UInt8} = 0
    GROUP BY block, code
)
