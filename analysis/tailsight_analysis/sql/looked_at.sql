-- Fragment. Is a span's trace one that is looked at? Every one, or those with a span that could be the entry span of a
-- sampled request: so that only these traces' requests are worked out, not all of the window's again.
({every_trace:UInt8} = 1 OR s.trace_id IN (
    SELECT s.trace_id FROM spans AS s
    WHERE {every_trace:UInt8} = 0 AND {plain:UInt8} = 0 AND {{within}} AND {{in_sample}}
        AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
        AND (notEmpty({service:Array(String)}) OR {rootless:UInt8} = 1 OR s.parent_span_id = toFixedString('', 8))
        AND {{qualifies}}))
