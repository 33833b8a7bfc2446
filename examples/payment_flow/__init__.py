"""The same payments through three contestants and faulty providers: whose books balance? `python -m examples.payment_flow`."""
