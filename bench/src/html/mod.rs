//! `--html`: a run's report as one page that needs nothing else, for a browser.
//!
//! ```text
//!   rows ─► charts ─┐
//!   histograms ─► percentiles ─► figures of vmmc-page ─► its document
//!   rows ─► glance, tables ─────────────────────────────►┤
//!   run, machine ─► about ───────────────────────────────┘
//! ```

mod about;
mod charts;
mod glance;
mod percentiles;
mod tables;
#[cfg(test)]
mod tests;

use maud::{Markup, html};
use vmmc_page::document::{self, Document, Fact};
use vmmc_page::plot::PlotError;
use vmmc_page::theme::{Series, distinct};

pub(crate) use self::about::{Run, started};
use crate::error::BenchError;
use crate::hgrm::Histograms;
use crate::report::Row;

/// The page for a run of this process.
pub(crate) fn page(run: &Run, rows: &[Row], histograms: &Histograms) -> Result<String, BenchError> {
    let ucx = rows.iter().any(|row| row.peer.starts_with("ucx"));
    let page = Page { command: document::command_line(), facts: about::facts(run, ucx), rows, histograms };
    page.html().map_err(|error| BenchError::Plot(error.to_string()))
}

/// What is on a page.
struct Page<'a> {
    command: String,
    facts: Vec<Fact>,
    rows: &'a [Row],
    histograms: &'a Histograms,
}

impl Page<'_> {
    fn html(&self) -> Result<String, PlotError> {
        let peers = Series::new(self.rows.iter().map(|row| row.peer), "floor", "vmmc");
        let benches = distinct(self.rows.iter().map(|row| row.bench));
        let mut sections = Vec::new();
        for bench in &benches {
            sections.push(self.section(bench, &peers)?);
        }
        let main = html! {
            (glance::tiles(self.rows))
            div .head { (document::facts("What was run, and on what", &self.facts)) (reading(&peers)) }
            @if sections.is_empty() { p { "Nothing was measured." } }
            @for section in sections { (section) }
        };
        let sections = benches.iter().map(|bench| ((*bench).to_owned(), title(bench).0.to_owned())).collect();
        Ok(Document { heading: "VMMC, measured", command: self.command.clone(), sections, main }.html())
    }

    fn section(&self, bench: &str, peers: &Series) -> Result<Markup, PlotError> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.bench == bench).collect();
        let mut figures = Vec::new();
        for figure in charts::figures(bench, &rows, peers) {
            figures.push(figure.figure.html(peers)?);
        }
        let (mut ends, mut between) = (Vec::new(), Vec::new());
        if bench == "lat" {
            for (end, figure) in percentiles::figures(self.histograms, peers) {
                if end { &mut ends } else { &mut between }.push(figure.html(peers)?);
            }
        }
        let (title, text) = title(bench);
        Ok(html! {
            section id=(bench) {
                h2 { (title) }
                p { (text) }
                div .figures { @for figure in figures { (figure) } }
                @if !ends.is_empty() {
                    p {
                        "How long the slowest messages take: one in ten is slower than what is shown at 90%, one in a thousand than at 99.9%. "
                        "The closer to 100%, the wider the scale. All rounds together."
                    }
                    div .figures { @for figure in ends { (figure) } }
                }
                @if !between.is_empty() {
                    details {
                        summary { "Latency by percentile, other sizes" }
                        div .figures { @for figure in between { (figure) } }
                    }
                }
                (tables::tables(&rows, peers))
            }
        })
    }
}

/// How to read the page, as far as it concerns who is on it.
fn reading(peers: &Series) -> Markup {
    html! {
        section .reading {
            h2 { "How to read this" }
            @if peers.names().len() > 1 {
                p {
                    "Peers took turns in every round, so that the machine’s drift meets all of them. A figure is the "
                    b { "median over all turns" } "; a ratio (×) is taken " b { "within each turn" }
                    ", and then averaged over the middle half of the turns. Ratios hold where absolute figures move with the machine’s load."
                }
            }
            @for name in peers.names() {
                @if let Some(text) = whom(name) { p { b { (name) } " is " (text) } }
            }
            p {
                "Point at a mark in a plot to read its value. On a logarithmic axis equal distances are equal ratios. "
                "Plots of one kind have the same axes at every MTU."
            }
        }
    }
}

/// Who a peer is.
fn whom(name: &str) -> Option<&'static str> {
    Some(match name {
        "floor" => {
            "AF_XDP alone, through the same library, with no protocol on top: nothing built on AF_XDP can be faster. It is no rival, \
             and so never marked as the best."
        }
        "vmmc" => "VMMC: remote writes with notification, every byte under a checksum.",
        "floor-gather" => {
            "the bulk lane alone, with no protocol on top: packets gathered from memory where it lies, landing where they belong. No copying \
             protocol can be held to it, and it is no rival."
        }
        "vmmc-eager" => "VMMC without its bulk lane: each byte is copied once at either end.",
        "vmmc-block" => {
            "VMMC, where the receiver of a stream sleeps for 50 µs whenever it has taken everything, so that its processor time is what it does \
             with the data."
        }
        "vmmc-eager-block" => "the same without the bulk lane.",
        "vmmc-nocrc" => "VMMC with its checksums switched off.",
        "tcp" => {
            "kernel TCP over the same wire, with the interface’s offloads as they come: on a veth pair segmentation offload hands on \
             packets of 64 KiB whatever the MTU."
        }
        "tcp-nooff" => "kernel TCP with tso, gso and gro off: packets of the MTU’s size, as on a wire.",
        "tcp-block" => "kernel TCP whose calls block: both sides sleep until there is data.",
        "tcp-block-nooff" => "kernel TCP whose calls block, with tso, gso and gro off.",
        "sockets" => {
            "VMMC’s stream sockets, both sides spinning: byte streams with the interface of the standard library’s TCP streams."
        }
        "sockets-eager" => {
            "the same without a bulk lane: each byte is copied once at either end, and packets carry it there."
        }
        "sockets-owned" => {
            "VMMC’s stream sockets where the writer gives its buffers away and the reader looks at what has come where it lies: no byte is copied \
             in user space."
        }
        "sockets-block" => {
            "VMMC’s stream sockets whose calls may sleep when there is nothing to do. They are compared with tcp-block, which sleeps too."
        }
        "ucx" => {
            "UCX over kernel TCP, its send with matching by tags, by its own ucx_perftest, which tells one percentile of a latency only."
        }
        "ucx-put" => "UCX over kernel TCP, its one-sided put, whose receiver polls the memory that is written.",
        _ => return None,
    })
}

/// What people call a bench, and what it measures.
fn title(bench: &str) -> (&str, &'static str) {
    match bench {
        "lat" => ("Latency", "One way: half of each round trip of a ping-pong. Lower is better."),
        "bw" => (
            "Bandwidth",
            "Payload of a one-way stream, counted where it arrives, in whatever way is cheapest for each peer. Higher is better.",
        ),
        "bw-copy" => (
            "Bandwidth with copies",
            "The same stream, with the payload copied from ordinary memory at the sender and to it at the receiver. Higher is better.",
        ),
        "rate" => ("Message rate", "Messages per second of a one-way stream. Higher is better."),
        "loss" => {
            ("Loss", "A stream over a network that loses packets at random, in both directions. Higher is better.")
        }
        "rr" => (
            "Requests",
            "Requests and answers over many connections at once, each side one thread. On each connection the client asks again when it has been answered. \
             Processor time is that of both sides.",
        ),
        "rr-plain" => ("Requests on one connection", "The same over one connection, by calls that wait for it alone."),
        "connect" => (
            "Connections",
            "Connections opened, used for a byte to and fro, and closed, one after another or several at a time.",
        ),
        "idle-streams" => (
            "Idle connections",
            "What each of many open connections that have nothing to do holds in memory: one side’s share of all, and its parts.",
        ),
        "incast" => (
            "Incast",
            "Several senders at once into one receiver, over a bridge. Jain’s index of fairness is 1 when all get the same.",
        ),
        "links" => {
            ("Idle links", "Round trips of a busy link beside idle ones, and the memory that each of these holds.")
        }
        "idle" => ("Idle nodes", "Processor time of two linked nodes that have nothing to do, in percent of a core."),
        "soak" => ("Soak", "Messages of all sizes over a bad network, every byte checked."),
        other => (other, ""),
    }
}
