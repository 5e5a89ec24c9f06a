"""What is served: members as ONNX graphs, their blend, the model card."""
