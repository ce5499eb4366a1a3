"""What a consumer's verbs are made of: the scripts that claim and ack, and those of the registry."""
