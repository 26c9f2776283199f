"""The parts of `mcc bench`: percentages of the peak, rivals, kernels for a shape, baselines."""
