-- How far have a process' spans arrived? Those that began before its recording ended, and whether later ones are there already.
SELECT
    countIf(toUnixTimestamp64Nano(s.start_time) < {end_ns:Int64}) AS before,
    countIf(toUnixTimestamp64Nano(s.start_time) >= {end_ns:Int64}) AS after
FROM spans AS s
WHERE {{within}} AND s.host = {host:String} AND s.resource['process.pid'] = toString({pid:UInt64})
