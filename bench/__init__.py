"""`python -m bench`: what the services cost, as ratios of things measured in the same run."""
