-- Fragment. Which of the `runs` is a span of? Its place, from 1; 0 where it is of none.
toUInt32(transform(s.run, {runs:Array(String)}, arrayEnumerate({runs:Array(String)}), 0))
