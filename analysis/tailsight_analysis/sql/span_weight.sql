-- Fragment. For how many spans does a stored one stand? For as many as its request: the last one that its service began in
-- this trace before it, else the first. Needs {{span_weights}} joined as k.
if(s.weight > 1 OR empty(k.decisions), s.weight, tupleElement(
    k.decisions[greatest(1, arrayLastIndex(d -> tupleElement(d, 1) <= s.start_time, k.decisions))], 2))
