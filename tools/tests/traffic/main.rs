//! `vmmc serve`, `ping`, `put`, `stats` and `top` as users run them, on hosts of a temporary lab. Needs root.

mod faults;
mod hosts;
mod log;
mod ping;
mod put;
mod trouble;
mod watched;
