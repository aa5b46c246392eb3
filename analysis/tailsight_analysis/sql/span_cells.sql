-- How many spans of each length, group by group and block by block of time? A row a group, with its cells as arrays. Of the
-- blocks, every stride-th.
SELECT
    by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run,
    groupArray(code) AS codes,
    groupArray(block) AS blocks,
    groupArray(spans) AS counts
FROM
(
    WITH toUnixTimestamp64Nano(s.start_time) AS start_ns
    SELECT
        {{dimensions}},
        {{cell_block}} AS block,
        {{cell_code}} AS code,
        count() AS spans
    FROM spans AS s
    WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        AND block % {stride:UInt8} = 0
    GROUP BY by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run, block, code
)
GROUP BY by_stage, by_hardware, by_service, by_name, by_version, by_model, by_region, by_host, by_run
