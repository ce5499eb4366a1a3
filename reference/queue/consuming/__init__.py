"""The scripts of a consumer: the one that acks and claims, and those of the registry."""
