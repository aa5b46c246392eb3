-- Fragment. Is a span part of a trace without any root span? Only where such traces are known to be there.
(empty({service:Array(String)}) AND {rootless:UInt8} = 1 AND {{around}} AND {{in_sample}} AND {{looked_at}}
    AND s.trace_id NOT IN (
        SELECT s.trace_id FROM spans AS s
        WHERE empty({service:Array(String)}) AND {rootless:UInt8} = 1 AND {{around}} AND {{in_sample}}
            AND s.parent_span_id = toFixedString('', 8)))
