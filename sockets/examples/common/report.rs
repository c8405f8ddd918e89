//! What a demo has measured: for people on standard output, for programs in a JSON file.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::args::tried;

/// What was measured over a family of sockets, a row for each figure.
pub struct Report {
    peer: &'static str,
    rows: Vec<Value>,
}

impl Report {
    /// Nothing yet, over the family with that key.
    pub fn new(peer: &'static str) -> Report {
        Report { peer, rows: Vec::new() }
    }

    /// One figure.
    pub fn add(&mut self, metric: &str, value: f64, unit: &str) {
        self.rows.push(json!({ "peer": self.peer, "metric": metric, "value": value, "unit": unit }));
    }

    /// Writes all figures to the file, if there is one.
    pub fn write(self, path: Option<&Path>) -> io::Result<()> {
        let Some(path) = path else { return Ok(()) };
        let text = format!("{:#}\n", Value::from(self.rows));
        fs::write(path, text).map_err(tried(format_args!("write {}", path.display())))
    }
}
