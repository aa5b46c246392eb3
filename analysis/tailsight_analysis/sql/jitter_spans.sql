-- How long does each span take, one after another, and what does it say of its deadline? Codes as in jitter_groups.sql.
SELECT {{jitter_columns}}, 1. AS weight
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
ORDER BY start_ns, stream, s.span_id
