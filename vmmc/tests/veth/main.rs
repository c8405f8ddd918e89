//! Nodes on real veth pairs, in network namespaces that the tests make. They need root, and fail without.

mod bulk;
mod bulk_arena;
mod bulk_node;
mod bulk_paged;
mod damage;
mod errors;
mod fetch;
mod hosts;
mod noise;
mod paged;
mod queues;
mod redirect;
mod transfer;
mod vlan;
