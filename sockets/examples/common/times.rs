//! How long things took, for people and for programs.

use vmmc_histogram::Durations;

use super::report::Report;

impl Report {
    /// Prints the table of these times, and keeps the quantiles that one compares.
    pub fn times(&mut self, what: &str, times: &Durations) {
        println!("{}", times.table(&[(what, 1.0)]));
        for (metric, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            self.add(metric, times.quantile(share), "us");
        }
    }
}
