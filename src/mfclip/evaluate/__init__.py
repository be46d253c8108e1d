"""Scores, metrics and tables: manifest -> scores -> metrics -> tables.

`score` runs a detector, `scores` holds the table, `metrics` and `bootstrap` are pure functions on
arrays, `report` joins them. Import from these modules; nothing is loaded here.
"""
