//! VMMC.
