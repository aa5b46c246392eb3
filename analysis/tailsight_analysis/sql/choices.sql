-- Which values can a filter take, in the window? At most a thousand a column.
SELECT
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.service))) AS service,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.stage))) AS stage,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.hardware))) AS hardware,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.version))) AS version,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.model))) AS model,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.run))) AS run,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.host))) AS host,
    arraySort(arrayFilter(v -> v != '', groupUniqArray(1000)(s.region))) AS region
FROM spans AS s
WHERE {{within}}
