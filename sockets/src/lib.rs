//! Stream sockets on VMMC.
