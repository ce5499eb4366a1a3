"""What a worker tells Prometheus and OpenTelemetry. A copy of the unit works without this folder."""
