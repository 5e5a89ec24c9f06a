"""What trains the networks of a run: this machine, one after the other, or the machines of a Ray cluster."""
