-- Fragment. May a span's trace be in the sample? Where ids are random, the sample is what has the lowest: so that only the
-- part of each minute is read in which they lie.
({every_trace:UInt8} = 1 OR {by_id:UInt8} = 0 OR s.trace_id <= toFixedString(unhex({last_id:String}), 16))
