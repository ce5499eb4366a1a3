"""Many runs at a time. Each is appended to a file when it ends, so that a campaign can be resumed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import TypeVar

import msgspec

Done = TypeVar("Done", bound=msgspec.Struct)


def run_all(work: Iterable[Callable[[], Done]], *, jobs: int, path: Path, stopping: Event) -> Iterator[Done]:
    """Yield each result when its work ends and it is in the file. Set `stopping` if an error ends the campaign."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(one) for one in work]):
                with path.open("ab") as file:
                    file.write(msgspec.json.encode(future.result()) + b"\n")
                yield future.result()
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise


def read_all(path: Path, kind: type[Done]) -> list[Done]:
    """Return the results in the file; empty if there is no file. Remove an incomplete last line from it."""
    if not path.exists():
        return []
    whole = b"".join(line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
    path.write_bytes(whole)
    return [msgspec.json.decode(line, type=kind) for line in whole.splitlines()]
