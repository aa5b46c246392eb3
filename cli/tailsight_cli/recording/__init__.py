"""Run files: what a command recorded, with where and of what it was recorded.

folders      where everything lies while it is recorded
order        in which order variants and repetitions run
environment  what makes a process write its spans into the recording
receiver     where OpenTelemetry's own SDKs send theirs
command      running the command: its signals, its end, and what it left behind
packing      from what was written down to the spans of one run
recorder     all of that, one file a variant
header       what the file says about itself
run_file     the file
pytest_plugin  the same for marked tests
"""
