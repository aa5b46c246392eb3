-- Which batches of one sender does the store have, whose spans it may still hold? So that an import is not repeated, and
-- one whose spans were deleted for their age is.
SELECT number, spans, recorded, sent_total
FROM sender_batches
WHERE sender = {sender:String} AND received_at >= (SELECT if(count() = 0, toDateTime('2106-01-01 00:00:00', 'UTC'), min(received_at)) FROM spans)
