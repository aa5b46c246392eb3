-- Is there any trace around the window without a root span? Looking for such requests costs several times more.
SELECT count() > 0 AS rootless
FROM
(
    SELECT s.trace_id FROM spans AS s
    WHERE {{around}} AND s.trace_id NOT IN (
        SELECT s.trace_id FROM spans AS s WHERE {{around}} AND s.parent_span_id = toFixedString('', 8))
    LIMIT 1
)
