"""Real servers for tests, from wheels: each is started by the first test that asks, and gone when the last one who used it is."""
