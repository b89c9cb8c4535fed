"""What an activation is: the definition, the torch layer, tracing, swapping one in a model."""
