-- Which numbered batches came last? So that a collector that was started anew knows them when they come again.
SELECT sender, number, spans, recorded, sent_total
FROM sender_batches
WHERE received_at > now() - INTERVAL 1 DAY AND lengthUTF8(sender) <= 128
ORDER BY received_at DESC
LIMIT {limit:UInt32}
