"""The services of the second act, each with a database of its own: `python -m examples.payment_flow.service --help`."""
