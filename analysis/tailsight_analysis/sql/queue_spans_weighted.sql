-- What do the services that have `queue` spans spend their time on, where requests were sampled? As queue_spans.sql, with for
-- how many each span stands.
SELECT {{queue_columns}}, {{span_weight}} AS weight
FROM spans AS s
LEFT JOIN ({{span_weights}}) AS k
    ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
WHERE {{queue_where}}
ORDER BY start_ns, span
LIMIT 1 BY trace_first, trace_last, span, stage, start_ns
