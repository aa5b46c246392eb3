-- Fragment. How long is the input of a trace's request: which eighth of an octave is the highest number in that its spans
-- carry under the key? Rounded down to `step_width` eighths; -32768 where none says it, or none is above 0. Needs GROUP BY trace.
if({input_key:String} = '' OR maxIf({{gate_number}}, {{gate_number}} > 0) = 0, toInt16(-32768), toInt16(
    floor(floor(8 * log2(maxIf({{gate_number}}, {{gate_number}} > 0))) / {step_width:UInt8}) * {step_width:UInt8}))
