-- How many spans of each length, run by run and block by block of its time, for each stage, type of hardware and kind of span: its
-- name and model, and how long the input of its trace's request was? A row a cell. Spans without a stage are left out.
SELECT
    place,
    kind,
    any(its_stage) AS stage,
    any(its_hardware) AS hardware,
    any(its_name) AS name,
    any(its_model) AS model,
    step,
    {{history_block}} AS block,
    {{history_code}} AS code,
    toInt64(count()) AS counts,
    sum(stands_for) AS weights,
    sum(stands_for * stands_for) AS weights2
FROM
(
    SELECT
        {{gate_place}} AS place,
        s.stage AS its_stage, s.hardware AS its_hardware, s.name AS its_name, s.model AS its_model,
        cityHash64(its_stage, its_hardware, its_name, its_model) AS kind,
        t.step AS step,
        toUnixTimestamp64Nano(s.start_time) AS start_ns,
        s.duration_ns AS duration_ns,
        if({weighted:UInt8} = 1, {{span_weight}}, 1.) AS stands_for
    FROM spans AS s
    LEFT JOIN
    (
        SELECT s.trace_id AS trace_id, {{gate_step}} AS step
        FROM spans AS s
        WHERE {input_key:String} != '' AND {{around}}
        GROUP BY s.trace_id
    ) AS t ON s.trace_id = t.trace_id
    LEFT JOIN (SELECT trace_id, service, scope_name, decisions FROM ({{span_weights}}) WHERE {weighted:UInt8} = 1) AS k
        ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
    WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        AND s.stage != ''
)
WHERE place > 0
GROUP BY place, kind, step, block, code
