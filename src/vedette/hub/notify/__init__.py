"""Telling people and systems of alerts and recommendations, exactly those that they asked for.

In the order of the flow: `routes` (who is told of what, and where), `outbox` (what a transaction changed is
put down for each route in that transaction), `deliveries` (what waits becomes messages, and what becomes of
each), `message` (what one says), `webhook`, `syslog`, `mail` and `mqtt` (how it gets there), `notifier` (does
it all while the hub runs). docs/notifications.md is the user's side.
"""
