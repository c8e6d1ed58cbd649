"""What device and hub agree on: events, messages, settings, topics. Pure values, no input or output."""
