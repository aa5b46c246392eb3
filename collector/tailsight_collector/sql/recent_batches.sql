-- Which numbered batches came last? So that a collector that was started anew knows them when they come again: a sender
-- repeats within minutes, and an import may be repeated as long as its spans are there.
SELECT sender, number, spans, recorded, sent_total
FROM sender_batches
WHERE lengthUTF8(sender) <= 128
    AND (received_at > now() - INTERVAL 1 DAY
        OR (startsWith(sender, 'import-')
            AND received_at >= (SELECT if(count() = 0, toDateTime('2106-01-01 00:00:00', 'UTC'), min(received_at)) FROM spans)))
ORDER BY received_at DESC
LIMIT {limit:UInt32}
