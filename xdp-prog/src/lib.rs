//! The eBPF steering program.
