-- A table's rows are kept, however old they are.
ALTER TABLE {table:Identifier} REMOVE TTL;
