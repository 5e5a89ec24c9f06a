"""Networks: timm backbones with a head, and which of their layers are trained at a stage."""
