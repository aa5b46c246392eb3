-- Fragment. Which requests are looked at span by span? At most so many of each class (1: tail, 2: typical), those with
-- the lowest hash of their trace id: the same ones whenever the same question is asked.
SELECT trace_id, span_id, start_ns, duration_ns, weight, failed, class
FROM
(
    SELECT
        trace_id, span_id, start_ns, duration_ns, weight, failed,
        arrayJoin(arrayFilter(c -> c != 0, [
            toUInt8(duration_ns >= {tail_from_ns:UInt64} AND cityHash64(trace_id) <= {tail_hash:UInt64}),
            toUInt8(if(duration_ns BETWEEN {typical_from_ns:UInt64} AND {typical_to_ns:UInt64}
                AND cityHash64(trace_id) <= {typical_hash:UInt64}, 2, 0))])) AS class
    FROM ({{requests}})
)
ORDER BY cityHash64(trace_id), trace_id, span_id
LIMIT {max_requests:UInt32} BY class
