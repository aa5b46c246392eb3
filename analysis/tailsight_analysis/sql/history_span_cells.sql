-- Fragment. The cells of `of_span`, which has a row a span (history_span.sql) with `stands_for`, how many spans it is one of:
-- a row a unit, stage and hardware, with its cells as arrays.
SELECT
    place, stage, hardware,
    groupArray(code) AS codes, groupArray(block) AS blocks, groupArray(spans) AS counts,
    groupArray(weight) AS weights, groupArray(weight2) AS weights2
FROM
(
    SELECT
        place, stage, hardware,
        {{history_block}} AS block,
        {{history_code}} AS code,
        count() AS spans,
        sum(stands_for) AS weight,
        sum(stands_for * stands_for) AS weight2
    FROM of_span
    WHERE place > 0
    GROUP BY place, stage, hardware, block, code
)
GROUP BY place, stage, hardware
ORDER BY place, stage, hardware
