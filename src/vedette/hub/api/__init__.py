"""The hub's HTTPS side."""
