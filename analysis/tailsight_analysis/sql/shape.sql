-- What are the window's traces like? As two slices of them show, each a 64th of all ids, near the lowest and in the middle. They
-- lie together on the disk, so this is cheap where there is much. Roots are spans without a parent.
SELECT
    slice,
    uniqExact(trace_id) AS traces,
    uniqExactIf(trace_id, is_root) AS rooted,
    countIf(is_root) AS roots,
    uniqExactIf((trace_id, span_id), is_root) AS distinct_roots
FROM
(
    SELECT
        s.trace_id AS trace_id,
        s.span_id AS span_id,
        s.parent_span_id = toFixedString('', 8) AS is_root,
        s.trace_id >= toFixedString(unhex('80'), 16) AS slice
    FROM spans AS s
    WHERE {{around}} AND (s.trace_id < toFixedString(unhex('04'), 16)
        OR (s.trace_id >= toFixedString(unhex('80'), 16) AND s.trace_id < toFixedString(unhex('84'), 16)))
)
GROUP BY slice
