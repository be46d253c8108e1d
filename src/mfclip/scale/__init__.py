"""Scoring that outgrows one run or one machine: parts, each with one result file of its own name.

Flow: manifest, folder or shards -> parts (`source`) -> worker (`worker`), in a loop here or on a
cluster (`loop`, `ray_pool`) -> one Parquet file a part (`table`, `place`) -> one table (`run`).
"""
