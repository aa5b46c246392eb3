"""Results as they look in a terminal: functions from an analysis' answer to something that rich can print.

They ask nothing and compute nothing but text, so that `tailsight demo` reports with the same tables. A module a
question; what they share is in `text`.
"""
