-- As history_spans.sql, where requests were sampled: with the sums of what the stored spans stand for, and of its squares.
WITH of_span AS
(
    SELECT {{history_span}}, {{span_weight}} AS stands_for
    FROM spans AS s
    LEFT JOIN ({{span_weights}}) AS k
        ON s.trace_id = k.trace_id AND s.service = k.service AND s.scope_name = k.scope_name
    WHERE {{history_staged}}
)
{{history_span_cells}}
