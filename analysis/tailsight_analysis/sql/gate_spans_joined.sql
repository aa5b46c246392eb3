-- As gate_spans.sql, and how long the input of the trace's request was, and for how many spans each stands.
WITH of_span AS
(
    SELECT {{gate_span}}, t.step AS step, if({weighted:UInt8} = 1, {{span_weight}}, 1.) AS stands_for
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
    WHERE {{history_staged}}
)
{{gate_span_cells}}
