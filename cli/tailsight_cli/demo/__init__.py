"""The sample pipeline: a real client, a real HTTP inference service, and a real model that has a tail.

    pipeline     starts both processes, reports progress, leaves nothing running
    workload     what is asked, and when: seeded
    client       a process: sends it, and measures it as the caller sees it
    service      a process: binds the port and runs app
    app          the HTTP endpoint and its stages
    tokenizer    text to token ids, with a cache
    batcher      the bounded queue and the dynamic batcher
    model        the matrices
    gc_watch     how long garbage collection held the process up
    names        what the processes are called, and where they meet

No part of it sleeps to look slow: each millisecond is work, or waiting for work.
"""
