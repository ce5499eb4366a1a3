"""A thread that runs beside a run."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Beside(ABC):
    """Runs inside a `with`, and has ended when that ends. `stopping` is set then."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    @abstractmethod
    def run(self) -> None:
        """Until `stopping` is set."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join()
