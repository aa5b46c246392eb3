-- Fragment. Is a sample one that a flame graph may show? Of a recording that is whole, and within the window and the filters; it
-- ran for a request, or comes from a file, which tells of none; or all but the ambiguous ones are asked for.
(s.time >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC') AND s.time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
    AND s.profile IN (SELECT p.id FROM profiles AS p)
    AND (s.match IN ('exact', 'stage') OR (s.match = 'none' AND ({outside:UInt8} = 1
        OR s.profile IN (SELECT p.id FROM profiles AS p WHERE p.trigger = 'import'))))
    AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    AND {{profile_filters}}
    AND (empty({profile:Array(String)}) OR s.profile IN {profile:Array(String)}))
