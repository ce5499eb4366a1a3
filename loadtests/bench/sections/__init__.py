"""The sections of the bench, one module each; `measure(context)` returns the rows of a section."""
