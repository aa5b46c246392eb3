"""Alerts: rules are evaluated now and then, what they find is remembered, and webhooks are told, once each.

    Evaluate ──► machine.step ──► state file ──► couriers ──► webhooks
    (the cli     pending, firing,   and the        retry
    wires it)    resolved           table alerts

Which rule finds what is analysis, of which nothing here knows: see `conditions.Evaluate`. See docs/alerts.md.
"""
