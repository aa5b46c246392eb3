-- How many requests of each length, by unit of a history and block of its time? A row a unit, with its cells as arrays. A
-- request is of the unit of its entry span.
SELECT
    place,
    groupArray(code) AS codes, groupArray(block) AS blocks, groupArray(requests) AS counts,
    groupArray(weight) AS weights, groupArray(weight2) AS weights2
FROM
(
    SELECT
        place,
        {{history_block}} AS block,
        {{history_code}} AS code,
        count() AS requests,
        sum(stands_for) AS weight,
        sum(stands_for * stands_for) AS weight2
    FROM ({{history_entries}})
    WHERE place > 0
    GROUP BY place, block, code
)
GROUP BY place
ORDER BY place
