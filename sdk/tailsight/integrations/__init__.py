"""Ready-made hooks for what carries requests between services: httpx, requests, aiohttp, gRPC, ASGI and WSGI.

    import tailsight.integrations.httpx

    client = tailsight.integrations.httpx.instrument(httpx.Client())

Each module imports its framework, and nothing else imports these modules: the SDK itself needs OpenTelemetry only.
A client's hook records a stage `network`, a server's hook a request; what lies between them is the network.
"""
