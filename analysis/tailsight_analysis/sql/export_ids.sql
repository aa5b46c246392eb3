-- Fragment. Is a span of one of these traces? `ids`: their ids in hex, 32 digits each, one behind the other.
s.trace_id IN (
    SELECT toFixedString(unhex(substring({ids:String}, 32 * number + 1, 32)), 16)
    FROM (SELECT arrayJoin(range(intDiv(length({ids:String}), 32))) AS number))
