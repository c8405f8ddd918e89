//! Nodes on real veth pairs, in network namespaces that the tests make. They need root, and fail without.

mod damage;
mod errors;
mod hosts;
mod noise;
mod paged;
mod transfer;
mod vlan;
