-- Parts that are there take their table's present time over: a mutation in the background.
ALTER TABLE {table:Identifier} MATERIALIZE TTL SETTINGS mutations_sync = 0;
