"""A simulated lab: exporters without hardware that speak the real protocol, so that there is something
to lease. `make demo` runs it beside the suite."""
