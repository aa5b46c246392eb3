-- How long does each span take, one after another, and for how many does it stand? As jitter_spans.sql, where requests were
-- sampled.
SELECT {{jitter_columns}}, {{span_weight}} AS weight
FROM spans AS s
LEFT JOIN ({{span_weights}}) AS k
    ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
ORDER BY start_ns, stream, s.span_id
