-- Which processes sent spans lately, of a service or with a number? One row a process of a service on a host, the latest first.
SELECT
    s.service AS service,
    s.host AS host,
    toUInt64OrZero(s.resource['process.pid']) AS pid,
    count() AS spans,
    toUnixTimestamp64Nano(max(s.start_time)) AS latest_ns
FROM spans AS s
WHERE {{within}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    AND ({pid:UInt64} = 0 OR s.resource['process.pid'] = toString({pid:UInt64}))
GROUP BY service, host, pid
HAVING pid > 0
ORDER BY latest_ns DESC, service, host, pid
LIMIT 1000
