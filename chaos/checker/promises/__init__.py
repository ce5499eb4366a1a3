"""What a target states beside at-least-once, and what a history shows against it."""
