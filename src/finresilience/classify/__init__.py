"""The classifier and its tables: HTTP by phase, decline codes, SQLSTATEs, sockets."""
