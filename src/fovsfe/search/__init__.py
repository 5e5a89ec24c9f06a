"""Recipe `auto`: finds the backbones, sizes and stages for the photos, the machine and the time at hand."""
