//! `vmmc serve`, `ping`, `put`, `get`, `stats`, `top` and `capture` as users run them, on hosts of a temporary lab. Needs root.

mod bulk;
mod capture;
mod faults;
mod get;
mod hosts;
mod log;
mod ping;
mod put;
mod trouble;
#[path = "../common/tshark.rs"]
mod tshark;
mod watched;
