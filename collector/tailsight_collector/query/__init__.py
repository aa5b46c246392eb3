"""The ClickHouse HTTP interface of the embedded store: who may ask what, and inserts of other collectors."""
