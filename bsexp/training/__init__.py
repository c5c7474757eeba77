"""Training: the optimizer, one step, many steps a dispatch, checkpoints and the loop around them."""
