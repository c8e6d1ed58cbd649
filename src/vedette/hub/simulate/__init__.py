"""Devices that are not there: they speak to a hub as agents do, for demonstrations and to try out its size.

`mix` is what they tell, `device` one of them on its connection, `fleet` all of them and their pace,
`figures` what came of it. They use the project's codec and nothing of the hub but its registry.
"""
