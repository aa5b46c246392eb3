-- Fragment. What a history counts of a span: its unit (place in `units`, from 1), stage, hardware, start and duration.
{{history_place}} AS place,
s.stage AS stage,
s.hardware AS hardware,
toUnixTimestamp64Nano(s.start_time) AS start_ns,
s.duration_ns AS duration_ns
