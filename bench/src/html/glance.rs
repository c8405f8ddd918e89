//! The figures that a reader looks for first, large: VMMC's own, and how they compare.

use maud::{Markup, html};
use vmmc_page::units;

use super::tables::ratios;
use crate::report::Row;

/// A tile for each kind of figure that there is of VMMC. Nothing where there is none.
pub(super) fn tiles(rows: &[Row]) -> Markup {
    let tiles = chosen(rows);
    html! {
        @if !tiles.is_empty() {
            section .tiles aria-label="VMMC at a glance" {
                @for (what, row) in tiles {
                    div .tile {
                        span { "VMMC: " (what) }
                        span { (units::bytes(row.size as f64)) ", MTU " (row.mtu) }
                        b { (units::value(row.value, row.unit)) }
                        span { (ratios(row)) }
                    }
                }
            }
        }
    }
}

/// Latency and rate of small messages over the first MTU, bandwidth of large ones over each.
fn chosen(rows: &[Row]) -> Vec<(&'static str, &Row)> {
    let mine = |bench: &'static str, metric: &'static str| {
        rows.iter().filter(move |row| (row.bench, row.peer, row.metric.as_str()) == (bench, "vmmc", metric))
    };
    let common = |bench, metric| mine(bench, metric).min_by_key(|row| (row.mtu, row.size.abs_diff(64)));
    let mut tiles = Vec::new();
    tiles.extend(common("lat", "p50").map(|row| ("median latency", row)));
    tiles.extend(common("rate", "rate").map(|row| ("messages", row)));
    let mut mtus: Vec<u32> = mine("bw", "bandwidth").map(|row| row.mtu).collect();
    mtus.sort_unstable();
    mtus.dedup();
    let largest = |mtu| mine("bw", "bandwidth").filter(move |row| row.mtu == mtu).max_by_key(|row| row.size);
    tiles.extend(mtus.into_iter().filter_map(largest).map(|row| ("bandwidth", row)));
    tiles.retain(|(_, row)| row.value.is_finite());
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bench: &'static str, metric: &str, mtu: u32, size: usize) -> Row {
        let metric = metric.into();
        Row { bench, peer: "vmmc", mtu, size, metric, value: 1.0, unit: "us", vs_floor: None, vs_tcp: None }
    }

    #[test]
    fn small_messages_of_the_smallest_mtu_and_large_ones_of_each() {
        let mut rows = Vec::new();
        for mtu in [9000, 1500] {
            for size in [8, 64, 4096] {
                rows.extend([row("lat", "p50", mtu, size), row("lat", "p99", mtu, size)]);
                rows.push(row("bw", "bandwidth", mtu, size));
            }
        }
        rows.push(Row { peer: "tcp", ..row("bw", "bandwidth", 65535, 4096) });
        let seen: Vec<_> = chosen(&rows).iter().map(|(what, row)| (*what, row.mtu, row.size)).collect();
        assert_eq!(seen, [("median latency", 1500, 64), ("bandwidth", 1500, 4096), ("bandwidth", 9000, 4096)]);
        assert!(tiles(&[]).into_string().is_empty());
    }
}
