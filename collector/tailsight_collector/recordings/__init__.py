"""Recordings of services' code that their sidecars send: kept in a folder, joined to the spans once those are there."""
