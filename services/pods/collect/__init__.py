"""Collectors: what runs elsewhere, fed to the pods service by its own feed (pods contract, section 7)."""
