-- What rules does a table have, its TTL among them?
SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = {table:String};
