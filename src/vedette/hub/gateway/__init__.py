"""The device side of the hub: MQTT in the Azure IoT Hub dialect, over TLS."""

from vedette.hub.gateway.server import Counters, Gateway

__all__ = ["Counters", "Gateway"]
