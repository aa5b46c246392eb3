-- How many spans of the window are not in the store, as far as anybody said so? `dropped` by senders before they sent them,
-- `missing` in numbered batches that have not arrived by now, `rejected` when they arrived. By the time of what said so.
SELECT
    sum(dropped_until - dropped_before) AS dropped,
    sum(missing_spans) AS missing,
    (
        SELECT count() FROM rejected_spans AS r
        WHERE r.received_at >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
            AND r.received_at < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
            AND (empty({service:Array(String)}) OR r.service IN {service:Array(String)})
    ) AS rejected
FROM
(
    SELECT
        sender,
        maxIf(dropped, first_at < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')) AS dropped_until,
        maxIf(dropped, first_at < fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')) AS dropped_before,
        sumIf(between + spans - delivered, first_at >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
            AND first_at < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')) AS missing_spans
    FROM
    (
        SELECT
            *,
            lagInFrame(number, 1, toUInt64(0)) OVER in_order AS previous_number,
            lagInFrame(sent_total, 1, toUInt64(0)) OVER in_order AS previous_total,
            -- in the batches between this one and the one before it that arrived; see senders.sql
            if(number - previous_number = 1, 0, toUInt64(greatest(0,
                toInt128(sent_total) - toInt128(spans) - toInt128(previous_total)))) AS between
        FROM
        (
            SELECT
                sender,
                number,
                min(s.received_at) AS first_at,
                max(s.spans) AS spans,
                least(spans, sum(s.arrived)) AS delivered,
                max(s.sent_total) AS sent_total,
                max(arraySum(mapValues(mapFilter(
                    (reason, dropped) -> NOT has({counted_elsewhere:Array(String)}, reason), s.dropped)))) AS dropped
            FROM sender_batches AS s
            WHERE s.sender IN (
                SELECT s.sender FROM sender_batches AS s
                WHERE s.received_at >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
                    AND s.received_at < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
                    AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
                    AND (empty({host:Array(String)}) OR s.host IN {host:Array(String)})
                    AND (empty({region:Array(String)}) OR s.region IN {region:Array(String)})
                    AND (empty({hardware:Array(String)}) OR s.hardware IN {hardware:Array(String)})
                    AND (empty({version:Array(String)}) OR s.version IN {version:Array(String)})
                    AND (empty({run:Array(String)}) OR s.run IN {run:Array(String)}))
            GROUP BY sender, number
        )
        WINDOW in_order AS (PARTITION BY sender ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    GROUP BY sender
)
