-- How much energy did each device take, by each sender that measured it, and over how many seconds? Counters of energy by
-- their steps (a counter that fell was restarted: that step is left out), power by trapezoids between its samples. Two
-- samples more than a minute apart say nothing of what lies between them.
SELECT
    hardware, host, hw_id, counted,
    sum(arraySum(arrayMap(gap -> if(gap > 0, gap, 0.), gaps))) AS seconds,
    sum(arraySum(arrayMap(
        (gap, before, after) -> multiIf(gap = 0, 0., delta, after, counted, after - before, gap * (before + after) / 2),
        gaps, arrayPopBack(values), arrayPopFront(values)))) AS joules
FROM
(
    SELECT
        hardware, host, hw_id, counted, delta, service, pid, run,
        tupleElement(points, 2) AS values,
        arrayMap(
            (earlier, later, before, after) ->
                if(later - earlier > 60000000000 OR (counted AND NOT delta AND after < before), 0., (later - earlier) / 1e9),
            arrayPopBack(tupleElement(points, 1)), arrayPopFront(tupleElement(points, 1)),
            arrayPopBack(values), arrayPopFront(values)) AS gaps
    FROM
    (
        SELECT
            hardware, host, hw_id, service, pid, run,
            metric IN ('hw.energy', 'nv_energy_consumption', 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION') AS counted,
            kind = 'delta' AS delta,
            arraySort(groupArray((
                toUnixTimestamp64Nano(time),
                value / if(metric = 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 1000, 1)))) AS points
        FROM hardware_samples
        WHERE metric IN ('hw.energy', 'hw.power', 'nv_energy_consumption', 'nv_gpu_power_usage',
                'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 'DCGM_FI_DEV_POWER_USAGE')
            AND time >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
            AND time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
        -- an hour at a time, so that arrays stay small
        GROUP BY hardware, host, hw_id, service, pid, run, metric, kind, toStartOfHour(time)
    )
)
GROUP BY hardware, host, hw_id, service, pid, run, counted
ORDER BY hardware, host, hw_id, counted, service, pid, run
