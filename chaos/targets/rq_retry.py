"""RQ with a Retry on every job."""

from typing import Any, ClassVar

from .rq import Rq


class RqRetry(Rq):
    """A killed worker's job is put back once a worker looks, as it has retries left."""

    name: ClassVar[str] = "rq-retry"
    settings: ClassVar[str] = f"Retry(max=5) on every job (default none); {Rq.settings}"
    promise: ClassVar[str] = "A failed job with Retry is requeued, as often as that says."

    def _retry(self) -> dict[str, Any]:
        from rq import Retry

        return {"retry": Retry(max=5)}
