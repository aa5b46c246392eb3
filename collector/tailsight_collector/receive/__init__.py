"""How a request comes in: the OTLP ports, decoding and checking, and limits on what strangers may send."""
