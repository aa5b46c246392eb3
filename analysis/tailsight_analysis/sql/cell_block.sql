-- Fragment. In which block of time does something start at start_ns? From 0; what lies outside belongs to the first or last.
toUInt16(least({blocks:UInt16} - 1, greatest(0, intDiv(start_ns - {first_ns:Int64}, {block_ns:Int64}))))
