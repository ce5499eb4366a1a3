"""The order in which pytest lists the files, so that `pytest --collect-only -q` reads as the specification.

First the queue: its laws, its tasks, their way from the producer's request to their end, what may go wrong on it, and
every order of steps; then its processes; then the harness, along the way of its data. What is not named comes last.
"""

import pytest

LAWS = "invariants task config redis_url server_version durability"
ACCEPTED = (
    "connections enqueue idempotency submissions producer producer_reading producer_errors producer_bounds "
    "problems producer_openapi"
)
EXECUTED = "handlers texts claim settle pace claimer worker threads supervisor signals"
GONE_WRONG = "fail release slow_link lease presence failover recover promote adopt dead_letter maxmemory"
ALL_ORDERS = "fairness model conservation schedules log_prefixes"
AROUND_IT = "gauges monitor serving up vendoring packaging imports readme"
RUN = (
    "plan servers servers_replicated processes warden targets target_reference agent ledger history tail run masking"
    " starvation"
)
FAULTS = (
    "resp proxy nemesis faults_worker faults_stop faults_handler faults_clients faults_server faults_network baseline"
)
JUDGED = "scan checker gaps situations excuses explanations lateness report summary"
CLAIMED = "mutants checker_mutants enumerate shrink compare certificate cli pytest_plugin init ci_files"
AROUND_ALL = "distribution repository"

ORDER = " ".join(
    [LAWS, ACCEPTED, EXECUTED, GONE_WRONG, ALL_ORDERS, AROUND_IT, RUN, FAULTS, JUDGED, CLAIMED, AROUND_ALL]
).split()
PLACES = {f"test_{name}": place for place, name in enumerate(ORDER)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Within a file the order stays as it is written."""
    items.sort(key=lambda item: PLACES.get(item.path.stem, len(ORDER)))
