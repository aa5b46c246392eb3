-- Fragment. Which of spans with one id comes first? The caller's half (0) before any other kind (1), the callee's (2) last.
multiIf(s.kind IN ('CLIENT', 'PRODUCER'), 0, s.kind IN ('SERVER', 'CONSUMER'), 2, 1)
