-- How many spans of the window came, and how many of them late (see late.sql)? Where ids are random, of a 64th of the traces.
SELECT count() AS spans, countIf({{late}}) AS late
FROM spans AS s
WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    AND ({by_id:UInt8} = 0 OR s.trace_id < toFixedString(unhex('04'), 16))
