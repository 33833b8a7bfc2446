"""The durable rooms on real databases, beside what a careful hand would write, and beside our peers."""
