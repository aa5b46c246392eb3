-- Which requests of a class, or of runs, were served while recordings went on? One row a request, with or without samples.
-- With `narrowed`, only those of which some span matches the filters: a model's requests are not all that a process served.
SELECT DISTINCT lower(hex(r.trace_id)) AS trace_id
FROM profile_requests AS r
WHERE r.profile IN {profile:Array(String)}
    AND (empty({class:Array(String)}) OR r.class IN {class:Array(String)})
    AND (empty({run:Array(String)}) OR r.run IN {run:Array(String)})
    AND ({narrowed:UInt8} = 0 OR r.trace_id IN (
        SELECT s.trace_id FROM spans AS s
        WHERE {{around}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)}) AND {{filters}}))
ORDER BY trace_id
LIMIT {most:UInt32}
