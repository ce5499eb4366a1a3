"""The harness. This file imports nothing, so that `chaos.ledger` can travel alone."""
