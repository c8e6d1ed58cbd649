"""The hub, in flow order: gateway, intake, lake, query; `app` composes them."""
