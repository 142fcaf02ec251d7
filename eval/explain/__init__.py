"""Where an answer came from: the training examples whose gradients are most like the answer's."""
