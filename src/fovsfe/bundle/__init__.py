"""What is served: members as ONNX graphs, the blend, the card."""
