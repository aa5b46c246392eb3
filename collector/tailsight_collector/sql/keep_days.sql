-- For how many days from their arrival are a table's rows kept, from now on? Parts that are there keep the time that they
-- were written with: keep_days_of_old_parts.sql.
ALTER TABLE {table:Identifier} MODIFY TTL toDateTime({column:Identifier}) + toIntervalDay({days:UInt32})
SETTINGS materialize_ttl_after_modify = 0;
