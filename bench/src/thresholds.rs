//! `vmmc-bench thresholds`: from which size on the bulk lane pays, by MTU, for nodes to read when they open.
//!
//! ```text
//!   vmmc, each send by the lane  ──┐  streams, single sends     gain of each size           the size from which on
//!   vmmc-eager                   ──┴─ of each size, in turns ─► √(streams × single sends) ─► the gains add up to most
//! ```
//!
//! What a program does with the lane isn't known: whether it sends one message and waits, or many at once. So of each size both are measured, and what the lane makes of them is their
//! geometric mean. The threshold is the size from which on the product of all sizes' gains is largest: one that chance has put on the wrong side changes little.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use vmmc::engine::Thresholds;
use vmmc::node::{THRESHOLDS_ENV, THRESHOLDS_FILE};

use crate::error::BenchError;
use crate::matrix::size_text;
use crate::report::{Report, Row};
use crate::spec::Bench;

/// Whom the lane is measured by, and whom against.
pub(crate) const PEERS: [&str; 2] = ["vmmc", "vmmc-eager"];

/// How the ratio to the eager lane is called.
const RATIO: &str = "vs eager";

/// Where the table is to be written.
pub(crate) struct Output {
    path: PathBuf,
    /// What it is written to first: it is there in whole, or as it was before, because a node may be reading it.
    draft: Option<PathBuf>,
    file: File,
}

impl Output {
    /// The file of this name; of none, the one where nodes look for a table. Before the measurements: one that can't be written should not cost minutes.
    pub(crate) fn open(name: &Path) -> Result<Output, BenchError> {
        let named = || std::env::var_os(THRESHOLDS_ENV).filter(|name| !name.is_empty());
        let path = match name.as_os_str().is_empty() {
            true => named().map_or_else(|| THRESHOLDS_FILE.into(), PathBuf::from),
            false => name.to_owned(),
        };
        // A pipe or a terminal can't be replaced and needn't be.
        let is_file = fs::metadata(&path).map_or(true, |about| about.is_file());
        let draft = is_file.then(|| PathBuf::from(format!("{}.new", path.display())));
        let open = || {
            let target = draft.as_ref().unwrap_or(&path);
            if let Some(directory) = target.parent() {
                fs::create_dir_all(directory)?;
            }
            File::options().create(draft.is_some()).write(true).truncate(draft.is_some()).open(target)
        };
        match open() {
            Ok(file) => Ok(Output { path, draft, file }),
            Err(source) => Err(BenchError::Write { path, source }),
        }
    }

    /// Writes it. Returns what is to be said of that.
    pub(crate) fn write(mut self, text: &str) -> Result<String, BenchError> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| match self.draft.take() {
            Some(draft) => fs::rename(draft, &self.path),
            None => Ok(()),
        });
        match written {
            Ok(()) => Ok(format!("\nwritten to {}\n", self.path.display())),
            Err(source) => Err(BenchError::Write { path: self.path.clone(), source }),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

/// What the lane makes of sends of one size: how much faster they are.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gain {
    mtu: u32,
    size: usize,
    /// Of many at once.
    streams: f64,
    /// Of one at a time.
    single: f64,
}

impl Gain {
    fn log(&self) -> f64 {
        (self.streams.ln() + self.single.ln()) / 2.0
    }
}

/// What was found.
pub(crate) struct Found {
    gains: Vec<Gain>,
    pub(crate) table: Thresholds,
}

impl Found {
    /// From a report of streams and latencies of both peers.
    ///
    /// # Errors
    /// When of an MTU not all was measured.
    pub(crate) fn of(report: &mut Report) -> Result<Found, BenchError> {
        report.compare_peers(RATIO, &PEERS[..1], Bench::Lat, "p50", PEERS[1]);
        let rows = report.rows();
        let ratio = |bench: Bench, like: &Row| {
            let same = |row: &&Row| (row.mtu, row.size, row.peer) == (like.mtu, like.size, PEERS[0]);
            let of = |row: &&Row| row.bench == bench.name() && row.metric == RATIO;
            rows.iter().filter(same).find(of).map(|row| row.value)
        };
        let measured = |row: &&Row| (row.bench, row.metric.as_str(), row.peer) == ("lat", "p50", PEERS[0]);
        let mut gains = Vec::new();
        for row in rows.iter().filter(measured) {
            let (streams, latency) = (ratio(Bench::Bw, row), ratio(Bench::Lat, row));
            let (Some(streams), Some(latency)) = (streams, latency) else {
                return Err(BenchError::TooFew { size: row.size, mtu: row.mtu });
            };
            gains.push(Gain { mtu: row.mtu, size: row.size, streams, single: 1.0 / latency });
        }
        gains.sort_by_key(|gain| (gain.mtu, gain.size));
        let steps: Vec<_> =
            gains.chunk_by(|a, b| a.mtu == b.mtu).map(|of| (of[0].mtu as usize, threshold(of))).collect();
        Ok(Found { table: Thresholds::of(&steps), gains })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = "How much faster the bulk lane is than the eager lane\n\n".to_owned();
        let _ = writeln!(text, "{:>6}{:>10}{:>11}{:>10}", "MTU", "size", "streams", "single");
        for Gain { mtu, size, streams, single } in &self.gains {
            let _ = writeln!(text, "{mtu:>6}{:>10}{streams:>11.2}{single:>10.2}", size_text(*size));
        }
        text += "\nBest, by MTU: sends of so many bytes and more\n\n";
        self.table.to_string().lines().for_each(|line| text += &format!("  {line}\n"));
        text
    }

    /// For nodes.
    pub(crate) fn file(&self, about: &str) -> String {
        format!(
            "# Which sends go by the bulk lane: from an MTU on, those of so many bytes and more.\n\
             # Written by `vmmc-bench thresholds`, {about}.\n\
             # MTU   from\n{}",
            self.table
        )
    }
}

/// From which size on the lane pays, at one MTU; `None` if it never does. The gains are in the order of their sizes.
fn threshold(gains: &[Gain]) -> Option<usize> {
    let (mut sum, mut best) = (0.0, (0.0, None));
    for gain in gains.iter().rev() {
        sum += gain.log();
        if sum > best.0 {
            best = (sum, Some(gain.size));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::figure;
    use crate::spec::Spec;

    fn gains(of: &[(usize, f64, f64)]) -> Vec<Gain> {
        of.iter().map(|&(size, streams, single)| Gain { mtu: 9000, size, streams, single }).collect()
    }

    #[test]
    fn it_is_where_gains_begin_and_one_that_is_odd_changes_little() {
        assert_eq!(threshold(&gains(&[(1, 0.5, 0.5), (2, 0.9, 1.0), (4, 1.2, 1.1), (8, 1.3, 1.3)])), Some(4));
        assert_eq!(threshold(&gains(&[(1, 0.5, 0.5), (2, 1.2, 1.2), (4, 0.95, 1.0), (8, 1.3, 1.3)])), Some(2));
        assert_eq!(threshold(&gains(&[(1, 1.1, 1.1), (2, 1.2, 1.2), (4, 1.3, 1.0), (8, 0.99, 1.0)])), Some(1));
        // What streams lose single sends may gain.
        assert_eq!(threshold(&gains(&[(1, 0.9, 1.2), (2, 0.9, 1.2)])), Some(1));
        assert_eq!(threshold(&gains(&[(1, 1.01, 1.0), (2, 0.7, 0.7)])), None);
        assert_eq!(threshold(&[]), None);
    }

    #[test]
    fn a_report_becomes_a_table_that_nodes_read() {
        let mut report = Report::default();
        for (mtu, faster) in [(9000, 0.9), (1500, 0.5)] {
            for (size, gain) in [(65536, faster), (131_072, faster * 1.3)] {
                for _ in 0..3 {
                    for (peer, speed) in [("vmmc", gain), ("vmmc-eager", 1.0)] {
                        let spec = |bench| Spec { bench, mtu, size, ..Spec::default() };
                        report.add_next(peer, &spec(Bench::Lat), vec![figure("p50", "", "us", 50.0 / speed)]);
                        report.add_next(peer, &spec(Bench::Bw), vec![figure("bandwidth", "", "Gbit/s", 9.0 * speed)]);
                    }
                }
            }
        }
        report.compare_peers(RATIO, &PEERS[..1], Bench::Bw, "bandwidth", PEERS[1]);
        let found = Found::of(&mut report).unwrap();
        let table: Thresholds = found.file("on a Monday").parse().unwrap();
        assert_eq!((table.at(1500), table.at(9000), &table), (None, Some(131_072), &found.table));
        let text = found.text();
        assert!(
            text.contains("  9000   128 KiB       1.17      1.17\n") && text.contains("\n  1500    never\n"),
            "{text}"
        );
        report.add_next("vmmc", &Spec { mtu: 3000, ..Spec::default() }, vec![figure("p50", "", "us", 1.0)]);
        assert!(matches!(Found::of(&mut report), Err(BenchError::TooFew { mtu: 3000, .. })));
    }
}
