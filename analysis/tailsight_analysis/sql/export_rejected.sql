-- How many spans that arrived in the window were rejected, and so are in no export?
SELECT count() AS rejected
FROM rejected_spans AS r
WHERE r.received_at >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
    AND r.received_at < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
    AND (empty({service:Array(String)}) OR r.service IN {service:Array(String)})
