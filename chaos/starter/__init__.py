"""Starter: what `zeroloss init` writes into a repository. May import nothing of this package."""
