"""What `tailsight gate` is made of; the statistics are tailsight_analysis.gating.

config      the settings in pyproject.toml or tailsight.toml, found and read
values      what a key and a value there may be
writing     a calibration, written into that file
sources     what a side is made of, as it was written: files, runs, versions, windows
loading     files, into a store of their own for as long as it takes
sampling    from sources to the runs of each side
report      all that a gate has to say, whatever the form
outputs     where the report goes
keeping     where it is kept: a collector, or a store
"""
