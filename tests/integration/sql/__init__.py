"""The durable rooms on real databases: the contracts, the laws of each database, and what kills and races do to them."""
