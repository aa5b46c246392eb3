-- Fragment. In which block of its unit's time does something start at start_ns? From 0. `place` is the unit's, from 1.
toUInt16(least({blocks:UInt16} - 1, greatest(0,
    intDiv(start_ns - {units_first_ns:Array(Int64)}[place], {units_block_ns:Array(Int64)}[place]))))
