//! Kernels that refuse what others take.
