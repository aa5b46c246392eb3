-- How many spans of each length, by unit of a history, stage, hardware and block of the unit's time? A row a unit, stage and
-- hardware, with its cells as arrays. Spans without a stage are left out.
WITH of_span AS
(
    SELECT {{history_span}}, 1. AS stands_for
    FROM spans AS s
    WHERE {{history_staged}}
)
{{history_span_cells}}
