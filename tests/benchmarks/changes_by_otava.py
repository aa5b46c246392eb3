"""Change points by Apache Otava (formerly Hunter), for bench_changes.py. Runs in an environment of its own, which has Otava.

Reads a JSON array of series from standard input, and writes an array of the indices that Otava finds in each, with its
defaults (window 50, p 0.001, any size).

Run: python -m venv otava; otava/bin/pip install apache-otava; bench_changes.py --otava otava/bin/python
"""

import json
import sys

from otava.analysis import compute_change_points

found = [[int(change.index) for change in compute_change_points(series)[0]] for series in json.load(sys.stdin)]
json.dump(found, sys.stdout)
