"""The gate: a candidate is slower than a baseline, is shown not to be, or there is too little to say.

Pure functions over the runs of both sides: see docs/analysis/gate.md.
"""
