-- Fragment. In which order are requests taken into a sample? By a number that each trace has: its id's first eight bytes
-- where ids are random, else a hash of it.
if({by_id:UInt8} = 1, byteSwap(reinterpretAsUInt64(substring(trace_id, 1, 8))), cityHash64(trace_id))
