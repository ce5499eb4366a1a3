"""What the bench measures, a module for each section; each has `measure(context)`, which gives its rows."""
