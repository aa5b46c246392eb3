-- What do the sampled requests' spans say of some attributes? One row a trace, service and key: the value on the earliest
-- span that has it (of entry spans only, for `texts`), and the mean of the `numbers`.
SELECT
    reinterpretAsUInt64(substring(trace_id, 1, 8)) AS trace_first,
    reinterpretAsUInt64(substring(trace_id, 9, 8)) AS trace_last,
    service, key,
    argMin(value, (start_time, span_id)) AS text,
    avgOrNullIf(said, isFinite(said)) AS number
FROM
(
    SELECT
        s.trace_id AS trace_id, s.service AS service, s.start_time AS start_time, s.span_id AS span_id,
        tupleElement(pair, 1) AS key, tupleElement(pair, 2) AS value,
        arrayMap({{number}}, [value])[1] AS said,
        has({numbers:Array(String)}, key) OR (s.trace_id, s.span_id) IN (SELECT trace_id, span_id FROM ({{sampled}})) AS counts
    FROM spans AS s
    ARRAY JOIN arrayFilter(p -> has({texts:Array(String)}, tupleElement(p, 1)) OR has({numbers:Array(String)}, tupleElement(p, 1)),
        CAST(s.attributes, 'Array(Tuple(String, String))')) AS pair
    WHERE {{around}} AND {{in_sample}} AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
)
WHERE counts AND value != ''
GROUP BY trace_id, service, key
