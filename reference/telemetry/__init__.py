"""Metrics of workers for Prometheus, and traces for OpenTelemetry. A copy of the unit works without this folder."""
