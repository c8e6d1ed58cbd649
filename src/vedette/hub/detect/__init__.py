"""Detection: committed events → rules → alerts, once each, with the position in the lake kept beside them."""
