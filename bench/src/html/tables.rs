//! Tables of everything that was measured: a column for each peer, a line for each figure and size.

use maud::{Markup, html};
use vmmc_page::theme::{Series, distinct};
use vmmc_page::units;

use crate::matrix::kind;
use crate::report::Row;

/// More lines than these are folded away.
const FOLD: usize = 16;

/// The tables of one bench's rows, one for each MTU.
pub(super) fn tables(rows: &[&Row], peers: &Series) -> Markup {
    html! {
        @for mtu in distinct(rows.iter().map(|row| row.mtu)) {
            (table(mtu, &rows.iter().copied().filter(|row| row.mtu == mtu).collect::<Vec<_>>(), peers))
        }
    }
}

fn table(mtu: u32, rows: &[&Row], peers: &Series) -> Markup {
    let columns: Vec<&str> =
        peers.names().iter().copied().filter(|peer| rows.iter().any(|row| row.peer == *peer)).collect();
    let mut lines = distinct(rows.iter().map(|row| (row.metric.as_str(), row.size)));
    let kinds = distinct(lines.iter().map(|line| kind(line.0).0));
    let metrics = distinct(lines.iter().map(|line| line.0));
    lines.sort_by_key(|&(metric, size)| {
        let place = |of: &[&str], it: &str| of.iter().position(|of| *of == it);
        (place(&kinds, kind(metric).0), place(&metrics, metric), size)
    });
    let sizes = distinct(lines.iter().map(|line| line.1));
    // Said once where it is always the same; nodes that are idle send nothing, and a soak messages of all sizes.
    let sent = !["idle", "soak"].contains(&rows.first().map_or("", |row| row.bench));
    let size = sizes.first().filter(|_| sizes.len() == 1 && sent).map(|size| units::bytes(*size as f64));
    html! {
        details open[lines.len() <= FOLD] {
            summary { "Table, MTU " (mtu) @if let Some(size) = size { ", messages of " (size) } }
            div .scroll tabindex="0" {
                table {
                    thead {
                        tr {
                            th scope="col" { "figure" }
                            @if sizes.len() > 1 { th scope="col" { "size" } }
                            @for peer in &columns {
                                th scope="col" .series style={ "--series:" (peers.colour(peer)) } { (peer) }
                            }
                        }
                    }
                    @for lines in lines.chunk_by(|a, b| kind(a.0).0 == kind(b.0).0) {
                        tbody {
                            @for (metric, size) in lines {
                                (line(metric, *size, sizes.len() > 1, &columns, rows))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn line(metric: &str, size: usize, sized: bool, columns: &[&str], rows: &[&Row]) -> Markup {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.metric == metric && row.size == size).collect();
    let best = best(&rows);
    html! {
        tr {
            th scope="row" { (name(metric)) }
            @if sized { th scope="row" .size { (units::bytes(size as f64)) } }
            @for peer in columns {
                @match rows.iter().find(|row| row.peer == *peer) {
                    Some(row) => {
                        td .best[best == Some(row.value)] {
                            (units::value(row.value, row.unit))
                            @let ratios = ratios(row);
                            // Of what is a ratio itself that were one too many.
                            @if !ratios.is_empty() && row.unit != "ratio" { span .ratio { (ratios) } }
                        }
                    }
                    None => td { "–" },
                }
            }
        }
    }
}

/// What it is of others, but not of itself.
pub(super) fn ratios(row: &Row) -> String {
    let of = |ratio: Option<f64>, whom: &str, name: &str| {
        ratio.filter(|_| row.peer != whom).map(|ratio| format!("{} {name}", units::ratio(ratio)))
    };
    let both = [of(row.vs_floor, "floor", "floor"), of(row.vs_tcp, "tcp", "TCP")];
    both.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The best value in a line, where that can be said: the floor takes no part, nobody is best alone.
fn best(rows: &[&Row]) -> Option<f64> {
    let rivals: Vec<&&Row> =
        rows.iter().filter(|row| !row.peer.starts_with("floor") && row.value.is_finite()).collect();
    let unit = rivals.first().map(|row| row.unit).filter(|_| rivals.len() > 1)?;
    let values = rivals.iter().map(|row| row.value);
    match unit {
        "us" | "copies" => values.reduce(f64::min),
        "Gbit/s" | "packets/s" | "requests/s" | "connections/s" | "ratio" => values.reduce(f64::max),
        _ => None,
    }
}

/// A metric as people write it.
fn name(metric: &str) -> String {
    let whole = match metric {
        "vs nooff" => "bandwidth, of that of tcp-nooff",
        "vs gather" => "bandwidth, of that of floor-gather",
        "vs eager" => "bandwidth, of that of vmmc-eager",
        "vs sockets-eager" => "bandwidth, of that of sockets-eager",
        "vs unwatched" => "of that of vmmc, which nobody watches",
        "rx cpu vs eager" => "the receiver’s processor time, of that of vmmc-eager-block",
        "rx cpu" => "the receiver’s processor time",
        "tx copies per byte" => "copies of a byte, sender",
        "rx copies per byte" => "copies of a byte, receiver",
        _ => "",
    };
    if !whole.is_empty() {
        return whole.into();
    }
    let (kind, of) = kind(metric);
    let kind = match kind {
        "p50" => "median",
        "p99" => "99%",
        "p999" => "99.9%",
        "jain" => "Jain’s index",
        "cpu" => "processor time",
        "heap" => "memory of a link",
        "memory" => "memory, one side",
        kind => kind,
    };
    if of.is_empty() { kind.into() } else { format!("{kind}, {of}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &'static str, value: f64, unit: &'static str) -> Row {
        let metric = "p99 sender 2".into();
        Row { bench: "lat", peer, mtu: 1500, size: 64, metric, value, unit, vs_floor: Some(1.5), vs_tcp: Some(0.5) }
    }

    #[test]
    fn the_best_is_the_least_time_or_the_most_of_the_rest() {
        let who = |unit| {
            let rows =
                [row("floor", 0.1, unit), row("vmmc", 1.0, unit), row("tcp", 2.0, unit), row("x", f64::NAN, unit)];
            best(&rows.iter().collect::<Vec<_>>())
        };
        assert_eq!((who("us"), who("Gbit/s"), who("count")), (Some(1.0), Some(2.0), None));
        assert_eq!(best(&[&row("vmmc", 1.0, "us")]), None);
        assert_eq!(best(&[&row("vmmc", 1.0, "us"), &row("floor", 0.5, "us")]), None);
    }

    #[test]
    fn nobody_is_compared_with_himself() {
        assert_eq!(ratios(&row("vmmc", 1.0, "us")), "1.50× floor · 0.50× TCP");
        assert_eq!(ratios(&row("tcp", 1.0, "us")), "1.50× floor");
        let alone = Row { vs_floor: None, vs_tcp: None, ..row("vmmc", 1.0, "us") };
        assert_eq!(ratios(&alone), "");
        assert_eq!((name("p99 sender 2"), name("bandwidth")), ("99%, sender 2".into(), "bandwidth".into()));
    }
}
