-- Is there any trace around the window without a root span, and any root span that is stored twice? Looking at such requests
-- costs several times more.
SELECT
    (SELECT count() > 0 FROM
    (
        SELECT s.trace_id FROM spans AS s
        WHERE {{around}} AND s.trace_id NOT IN (
            SELECT s.trace_id FROM spans AS s WHERE {{around}} AND s.parent_span_id = toFixedString('', 8))
        LIMIT 1
    )) AS rootless,
    (
        SELECT count() > uniqExact(s.trace_id, s.span_id) FROM spans AS s
        WHERE {{around}} AND s.parent_span_id = toFixedString('', 8)
    ) AS repeated_roots
