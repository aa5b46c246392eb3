-- Fragment. What a gate counts of a span: its run (place in `runs`, from 1), kind, start and duration.
{{gate_place}} AS place,
s.stage AS its_stage, s.hardware AS its_hardware, s.name AS its_name, s.model AS its_model,
cityHash64(its_stage, its_hardware, its_name, its_model) AS kind,
toUnixTimestamp64Nano(s.start_time) AS start_ns,
s.duration_ns AS duration_ns
