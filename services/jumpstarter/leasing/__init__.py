"""Who gets which exporter: the engine that gives and takes back, and the rules it goes by."""
