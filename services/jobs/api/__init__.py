"""What answers requests: the RPCs and their REST form, and the rules of what may be asked."""
