"""The algorithm of `shared-list` in Go: BRPOPLPUSH into one processing list, shared by all and never read again."""

from pathlib import Path
from typing import ClassVar

from . import pins
from .pushed_json import PushedJson

HERE = Path(__file__).parent


class SharedListGo(PushedJson):
    """Strands what its workers hold when they die (I4), as `shared-list` does; in Go, of its standard library alone."""

    name: ClassVar[str] = "shared-list-go"
    requirements = pins.GO
    build = (
        *("sh", "-c", 'cp "$@" . && CGO_ENABLED=0 exec go build -o shared-list-go shared_list.go ledger.go', "build"),
        *(str(HERE / "shared_list.go"), str(HERE.parent / "ledgers" / "ledger.go")),
    )
    worker = ("shared-list-go",)
    promise: ClassVar[str] = (
        "Redis's pattern of a reliable queue: what is taken lies in a processing list until it has been processed, and "
        "another client looks for what lies there too long, which this one leaves out."
    )
    promise_url: ClassVar[str] = "https://redis.io/docs/latest/commands/lmove/"
