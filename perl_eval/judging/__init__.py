"""The verbs judge, jury and verify: pairing, queue, asking, early stopping, perturbations, cost."""
