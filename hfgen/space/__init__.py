"""The Space: several models on the same input and the same seed. Only `interface` needs Gradio."""
