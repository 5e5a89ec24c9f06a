"""The training of one member: stage by stage, epoch by epoch."""
