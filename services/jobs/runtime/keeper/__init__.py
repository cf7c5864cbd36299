"""The keeper: a small process that owns the pods of one data folder and outlives the service.

It imports nothing but the standard library, so that it stays small: what it forks is itself.
"""
