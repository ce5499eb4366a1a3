"""`zeroloss queue`: the reference queue's own command line, as part of the harness's."""

from typing import Annotated

from cyclopts import Parameter

from .common import app


@app.command(help_flags=[])
def queue(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run the reference queue: up, producer, worker, dead-letter and more; see `zeroloss queue --help`."""
    from zeroloss.reference.__main__ import main

    try:
        return main(words, prog="zeroloss queue")
    except SystemExit as ended:  # argparse has printed its help, or what was wrong
        return ended.code if isinstance(ended.code, int) else 2
