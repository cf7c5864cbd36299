"""What answers clients, exporters and operators of a lab, and the router where two of them meet."""
