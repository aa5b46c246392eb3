-- Which requests of a class, or of runs, were served while recordings went on? One row a request, with or without samples.
SELECT DISTINCT lower(hex(r.trace_id)) AS trace_id
FROM profile_requests AS r
WHERE r.profile IN {profile:Array(String)}
    AND (empty({class:Array(String)}) OR r.class IN {class:Array(String)})
    AND (empty({run:Array(String)}) OR r.run IN {run:Array(String)})
ORDER BY trace_id
LIMIT {most:UInt32}
