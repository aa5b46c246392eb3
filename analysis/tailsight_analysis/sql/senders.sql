-- What did each sender say that it sent, and what of that has arrived? One row a sender of whom anything came in the window;
-- its account is of its whole life up to the window's end. See docs/analysis/delivery.md. An import numbers its batches too,
-- to be recognised when it is repeated: it is no sender.
SELECT
    sender,
    argMax(b.service, b.number) AS service,
    argMax(b.host, b.number) AS host,
    argMax(b.region, b.number) AS region,
    argMax(b.hardware, b.number) AS hardware,
    argMax(b.version, b.number) AS version,
    argMax(b.run, b.number) AS run,
    toUnixTimestamp64Milli(min(b.first_at)) AS first_heard_ms,
    toUnixTimestamp64Milli(max(b.last_at)) AS last_heard_ms,
    max(b.last) AS ended,
    count() AS batches,
    max(b.number) AS highest,
    countIf(b.is_repeated) AS repeated_batches,
    countIf(b.delivered < b.spans) AS short_batches,
    sum(b.missing_batches) AS missing_batches,
    sum(b.missing_spans) + sum(b.spans - b.delivered) AS missing_spans,
    countIf(b.missing_batches > 0) AS gaps,
    arrayMap(gap -> (gap.1, gap.2, gap.3, toUnixTimestamp64Milli(gap.4)), groupArraySortedIf({max_gaps:UInt32})(
        (b.previous_number + 1, b.number - 1, b.missing_spans, b.first_at), b.missing_batches > 0)) AS first_gaps,
    max(b.recorded) AS recorded,
    max(b.sent_total) AS sent,
    sum(b.delivered - b.rejected) AS stored,
    sum(b.rejected) AS rejected,
    sum(b.arrived - b.delivered) AS repeated_spans,
    maxMap(b.dropped) AS dropped,
    maxMap(b.sampled_out) AS sampled_out,
    maxMap(b.kept) AS kept,
    -- a total that does not follow from the one before it, or more spans than were announced
    countIf(b.is_odd OR if(b.missing_batches = 0, b.sent_total != b.previous_total + b.spans,
        b.sent_total < b.previous_total + b.spans)) AS contradictions
FROM
(
    SELECT
        *,
        lagInFrame(number, 1, toUInt64(0)) OVER in_order AS previous_number,
        lagInFrame(sent_total, 1, toUInt64(0)) OVER in_order AS previous_total,
        number - previous_number - 1 AS missing_batches,
        -- batches that did not arrive held what the total grew by between those before and behind them
        if(missing_batches = 0, 0, toUInt64(greatest(0,
            toInt128(sent_total) - toInt128(spans) - toInt128(previous_total)))) AS missing_spans
    FROM
    (
        -- one row a batch: one that came twice counts once, one that something split on its way counts as the sum of its parts
        SELECT
            sender,
            number,
            any(s.service) AS service,
            any(s.host) AS host,
            any(s.region) AS region,
            any(s.hardware) AS hardware,
            any(s.version) AS version,
            any(s.run) AS run,
            min(s.received_at) AS first_at,
            max(s.received_at) AS last_at,
            max(s.last) AS last,
            max(s.spans) AS spans,
            max(s.sent_total) AS sent_total,
            max(s.recorded) AS recorded,
            maxMap(s.dropped) AS dropped,
            maxMap(s.sampled_out) AS sampled_out,
            maxMap(s.kept) AS kept,
            sum(s.arrived) AS arrived,
            least(spans, arrived) AS delivered,
            if(arrived = 0, 0, intDiv(sum(s.rejected) * delivered, arrived)) AS rejected,
            count() > 1 AND (spans = 0 OR arrived > spans) AS is_repeated,
            max(s.arrived) > spans OR min(s.sent_total) != sent_total OR min(s.spans) != spans AS is_odd
        FROM sender_batches AS s
        WHERE s.received_at < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC') AND s.sender IN (
            SELECT s.sender FROM sender_batches AS s
            WHERE NOT startsWith(s.sender, 'import-')
                AND s.received_at >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
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
) AS b
GROUP BY sender
