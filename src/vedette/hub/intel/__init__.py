"""Threat intelligence and software knowledge that an owner imports: indicators, advisories, lifecycles.

In flow order: `formats`, `stix`, `misp` and `osv` read files, `store` keeps what they yield in the registry's
database, `lookup` answers detection's questions from memory, `matching` finds what is known about software.
"""
