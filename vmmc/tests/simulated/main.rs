//! Engines and links over the simulated network: no clock, no sleep, no privilege.

mod corners;
mod delivery;
mod hostile;
mod lives;
mod world;
