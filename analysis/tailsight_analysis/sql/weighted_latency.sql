-- Fragment. What sums up weighted durations? Columns over `latencies`, the (duration_ns, weight, failed) of a group. Some are
-- as long as the group: take only what is asked for.
length(latencies) AS stored,
arraySort(latencies) AS ordered,
tupleElement(ordered, 1) AS sorted_ns,
tupleElement(ordered, 2) AS weights,
arrayCumSum(weights) AS reached,
reached[-1] AS estimated,
arraySum(arrayMap((w, f) -> w * f, weights, tupleElement(ordered, 3))) AS errors,
sorted_ns[-1] AS max_ns,
[0.5, 0.9, 0.95, 0.99, 0.999] AS levels,
{{weighted_quantiles}} AS quantiles_ns,
-- how many equally weighted requests tell as much as those at or above p99.9: Kish's effective size
arraySum(arrayFilter((w, d) -> d >= quantiles_ns[5], weights, sorted_ns)) AS beyond_weight,
pow(beyond_weight, 2) / arraySum(arrayMap((w, d) -> if(d >= quantiles_ns[5], w * w, 0), weights, sorted_ns)) AS beyond
