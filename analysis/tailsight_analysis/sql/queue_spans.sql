-- What do the services that have `queue` spans spend their time on? Their stages' spans, those stored twice once.
SELECT {{queue_columns}}, 1. AS weight
FROM spans AS s
WHERE {{queue_where}}
ORDER BY start_ns, span
LIMIT 1 BY trace_first, trace_last, span, stage, start_ns
