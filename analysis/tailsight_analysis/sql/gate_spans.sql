-- How many spans of each length, run by run and block by block of its time, for each stage, type of hardware and kind of span: its
-- name and model? A row a cell. Spans without a stage are left out. Where a span stands for several, or lengths of inputs
-- count: gate_spans_joined.sql, whose joins cost six times as much as this.
WITH of_span AS
(
    SELECT {{gate_span}}, toInt16(-32768) AS step, 1. AS stands_for
    FROM spans AS s
    WHERE {{history_staged}}
)
{{gate_span_cells}}
