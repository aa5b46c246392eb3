-- How many spans of each length, by unit of a history, stage, hardware and block, where requests were sampled? As
-- history_spans.sql, with the sums of what the stored spans stand for, and of its squares.
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
    FROM
    (
        SELECT
            {{history_place}} AS place,
            s.stage AS stage,
            s.hardware AS hardware,
            toUnixTimestamp64Nano(s.start_time) AS start_ns,
            s.duration_ns AS duration_ns,
            {{span_weight}} AS stands_for
        FROM spans AS s
        LEFT JOIN ({{span_weights}}) AS k
            ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
        WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
            AND s.stage != ''
    )
    WHERE place > 0
    GROUP BY place, stage, hardware, block, code
)
GROUP BY place, stage, hardware
ORDER BY place, stage, hardware
