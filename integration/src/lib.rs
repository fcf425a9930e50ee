//! black-box tests against real containerd and real kernels.
