"""Vedette: a security micro agent for Linux IoT devices and the hub that a fleet owner hosts."""

__version__ = "0.1.0"
