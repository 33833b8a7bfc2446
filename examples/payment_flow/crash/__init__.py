"""The second act: services that are killed in the middle of their work, and what their databases say afterwards."""
