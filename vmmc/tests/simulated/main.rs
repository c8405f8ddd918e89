//! Engines and links over the simulated network: no clock, no sleep, no privilege.

mod delivery;
mod hostile;
mod lives;
mod world;
