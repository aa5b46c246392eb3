-- Fragment. Which of the `units` of a history does a span belong to? Its place, from 1; 0 where it belongs to none.
toUInt32(multiIf(
    {unit:String} = 'version', transform(s.version, {units:Array(String)}, arrayEnumerate({units:Array(String)}), 0),
    {unit:String} = 'run', transform(s.run, {units:Array(String)}, arrayEnumerate({units:Array(String)}), 0),
    transform(toString(intDiv(toUnixTimestamp64Nano(s.start_time), {unit_ns:Int64})),
        {units:Array(String)}, arrayEnumerate({units:Array(String)}), 0)))
