-- How many spans of each length, group by group and block by block of time, where requests were sampled? As span_cells.sql,
-- with the sums of what the stored spans stand for, and of its squares.
SELECT
    by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run,
    groupArray(code) AS codes,
    groupArray(block) AS blocks,
    groupArray(spans) AS counts,
    groupArray(weight) AS weights,
    groupArray(weight2) AS weights2
FROM
(
    SELECT
        by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run,
        block, code,
        count() AS spans,
        sum(stands_for) AS weight,
        sum(stands_for * stands_for) AS weight2
    FROM
    (
        WITH toUnixTimestamp64Nano(s.start_time) AS start_ns
        SELECT
            {{dimensions}},
            {{cell_block}} AS block,
            {{cell_code}} AS code,
            {{span_weight}} AS stands_for
        FROM spans AS s
        LEFT JOIN ({{span_weights}}) AS k
            ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
        WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
            AND block % {stride:UInt8} = 0
    )
    GROUP BY by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run, block, code
)
GROUP BY by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run
