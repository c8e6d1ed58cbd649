"""The security baseline: the 237 checks of the CIS benchmark for Linux, on a device or an image of one.

`tree` and `device` read files below one root, modules of facts (`mounts`, `kernel`, `services`,
`accounts`, …) know formats, chapters (`ch1_…` to `ch6_…`) declare checks with `declare` and `families`,
`search` is the one walk that they share, `scan` runs them, `collectors.baseline` makes events of it.
Everything here is synchronous and in small steps; who calls decides on threads and pace.
"""
