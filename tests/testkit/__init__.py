"""What tests of several folders share: OTLP requests with known content, and a collector as a real process."""
