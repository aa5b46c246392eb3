-- Fragment. Which requests are looked at span by span? At most so many of each class (1: tail, 2: typical), those that come
-- first in the order of sample_key.sql: the same ones whenever the same question is asked.
SELECT trace_id, span_id, start_ns, duration_ns, weight, class
FROM
(
    SELECT
        trace_id, span_id, start_ns, duration_ns, weight,
        arrayJoin(arrayFilter(c -> c != 0, [
            toUInt8(duration_ns >= {tail_from_ns:UInt64} AND {{sample_key}} <= {tail_key:UInt64}),
            toUInt8(if(duration_ns BETWEEN {typical_from_ns:UInt64} AND {typical_to_ns:UInt64}
                AND {{sample_key}} <= {typical_key:UInt64}, 2, 0))])) AS class
    FROM ({{requests}})
)
ORDER BY {{sample_key}}, trace_id, span_id
LIMIT {max_requests:UInt32} BY class
