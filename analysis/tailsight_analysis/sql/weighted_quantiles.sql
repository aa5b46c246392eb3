-- Fragment. At which values do `levels` (quantiles) lie, of ascending `sorted_ns` that stand for as many as the differences
-- of `reached` say? As if each were repeated by its weight, linearly interpolated: with weights of 1 the same as
-- quantilesExactInclusive. See docs/analysis/sampling.md.
arrayMap(
    found -> sorted_ns[tupleElement(found, 2)]
        + greatest(0., tupleElement(found, 1) - (reached[tupleElement(found, 2)] - 1))
            * (toFloat64(sorted_ns[least(tupleElement(found, 2) + 1, length(sorted_ns))])
                - sorted_ns[tupleElement(found, 2)]),
    arrayMap(
        position -> (position, greatest(1, arrayFirstIndex(r -> r > position, reached))),
        arrayMap(level -> level * (reached[-1] - 1), levels)))
