-- When does each request start, how long does it take, and for how many does it stand?
SELECT start_ns, duration_ns, weight
FROM ({{requests}})
ORDER BY start_ns
