-- Who numbers its batches, and when was anything of them received? For whoever asked in the wrong place.
SELECT
    count() AS batches,
    toUnixTimestamp64Nano(min(toDateTime64(received_at, 9, 'UTC'))) AS first_ns,
    toUnixTimestamp64Nano(max(toDateTime64(received_at, 9, 'UTC'))) AS last_ns,
    arraySort(groupUniqArray(1000)(host)) AS host,
    arraySort(groupUniqArray(1000)(service)) AS service
FROM sender_batches
WHERE NOT startsWith(sender, 'import-')
