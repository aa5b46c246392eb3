-- How long did the requests of a service take? One row a request.
SELECT lower(hex(trace_id)) AS trace_id, max(duration_ns) AS duration_ns
FROM ({{requests}})
GROUP BY trace_id
