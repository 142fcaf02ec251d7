"""Which training examples pulled towards an answer: gradients of single examples, and the index of a run's."""
