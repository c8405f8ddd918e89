//! Engines and links over the simulated network: no clock, no sleep, no privilege.

mod bulk;
mod corners;
mod delivery;
mod events;
mod fetch;
mod fetch_hostile;
mod hostile;
mod incast;
mod injected;
mod lanes;
mod lend;
mod lives;
mod parse;
mod redirect;
mod siege;
mod table;
mod try_send;
mod world;
