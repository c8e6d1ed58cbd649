"""The agent, in flow order: sources, collectors, aggregate, schedule, outbox, uplink; `app` composes them."""
