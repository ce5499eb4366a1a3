"""Helpers shared by the tests. No file here is a test."""
