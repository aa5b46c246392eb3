-- Fragment. Which unit of a history does a span belong to: its version, its run, or the number of its stretch of time, from 1970 on?
multiIf(
    {unit:String} = 'version', toString(s.version),
    {unit:String} = 'run', toString(s.run),
    toString(intDiv(toUnixTimestamp64Nano(s.start_time), {unit_ns:Int64})))
