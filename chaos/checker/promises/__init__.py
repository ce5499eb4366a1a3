"""Promises that a target states beyond at-least-once, and how a history shows them broken."""
