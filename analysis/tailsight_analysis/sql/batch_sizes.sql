-- Which spans of the sampled requests' traces say how large the batch was that they worked on? Ids as text and number.
SELECT
    lower(hex(s.trace_id)) AS trace,
    reinterpretAsUInt64(s.span_id) AS span,
    max(arrayMap({{number}}, [s.attributes['tailsight.batch.size']])[1]) AS batch_size
FROM spans AS s
WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
    AND arrayMap({{number}}, [s.attributes['tailsight.batch.size']])[1] > 0
GROUP BY trace, span
