-- Which traces began last? Ids to name where the one asked for is not there.
SELECT lower(hex(s.trace_id)) AS id
FROM spans AS s
WHERE s.start_time >= (SELECT max(start_time) FROM spans) - INTERVAL 1 MINUTE
GROUP BY s.trace_id
ORDER BY max(s.start_time) DESC, s.trace_id
LIMIT {most:UInt32}
