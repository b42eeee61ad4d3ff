"""Networks that diffusers and transformers don't have, and the decoder that the families share."""
