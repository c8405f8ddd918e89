//! The options that every subcommand with a node has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmmc::port::fault::{FaultCounters, Faults, Way};
use vmmc::route::Routes;
use vmmc::{Builder, Bulk, DEFAULT_PORT, Node, Progress};

use crate::output::say;

/// Where and how to open a node.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Node options")]
pub(crate) struct NodeArgs {
    /// The network interface: an Ethernet port, or a VLAN on one, such as eth0.5.
    #[arg(long, value_name = "IF")]
    pub(crate) interface: String,
    /// The node's address [default: the interface's first, of the peer's family].
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The node's UDP port.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Use only this queue of the interface [default: all of them]
    #[arg(long, value_name = "N")]
    queue: Option<u32>,
    /// Have no bulk lane: copy long sends, and leave the interface's last queue to the rest.
    #[arg(long, conflicts_with = "require_zero_copy")]
    no_bulk: bool,
    /// Don't run unless the NIC itself reads and writes memory for long sends: a bulk lane in zero-copy mode, which takes huge pages.
    ///
    /// Otherwise the lane is in that mode where the driver has it, the kernel copies packets where not, and long sends go like short ones where
    /// there can be no lane. `vmmc doctor IF` says what there can be, and what to do about it.
    #[arg(long, conflicts_with = "queue")]
    require_zero_copy: bool,
    /// The largest IP packet to send, in bytes [default: the interface's MTU].
    #[arg(long, value_name = "N")]
    mtu: Option<usize>,
    /// Drive the node on this core [serve: by a thread of its own].
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Microseconds to spin before sleeping, or "forever".
    #[arg(long, value_name = "US", value_parser = parse_spin)]
    spin: Option<Duration>,
    /// Send packets without checksums, if the peer does too.
    #[arg(long)]
    no_checksum: bool,
    /// Seconds of silence after which a peer counts as dead [default: 5].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    peer_timeout: Option<Duration>,
    /// Serve metrics for Prometheus over HTTP, at http://ADDR:PORT/metrics, while this runs.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Make faults in what is sent, to see what comes of it: such as drop=1%,corrupt=0.1%.
    ///
    /// Any of drop=1%, dup=0.1%, reorder=2%, delay=100us, corrupt=0.1% and seed=42, separated by commas. With on=receive faults are made in
    /// what is received, with on=both both ways. At the end it says how many were made, and how many packets were "spared": chosen, but
    /// let through as they were, because no memory was free for the copy that is damaged, repeated or held back. Packets of the bulk lane meet with
    /// faults as they are sent, not as they are received, and are damaged in their headers only: for the rest, have the other end make faults.
    #[arg(long, value_name = "FAULTS")]
    fault: Option<Faults>,
}

/// Who drives the node's engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// This thread, by its calls.
    Caller,
    /// A thread of the node's own.
    Thread,
}

/// The core can't be had.
#[derive(Debug, thiserror::Error)]
#[error("this process can't be pinned to core {0}: it may run on the cores {1:?}")]
pub(crate) struct NoSuchCore(usize, Vec<usize>);

impl NodeArgs {
    /// Opens the node, with `arena` bytes for exports; `spin` unless the user has said otherwise. The core is the driver's.
    /// It is for talking with `peer`, or with whoever comes.
    pub(crate) fn open(
        &self,
        peer: Option<SocketAddr>,
        driver: Driver,
        arena: u64,
        spin: Duration,
    ) -> Result<Node, Box<dyn std::error::Error>> {
        let progress = match driver {
            Driver::Thread => Progress::Thread { core: self.core },
            Driver::Caller => Progress::Caller,
        };
        if let (Driver::Caller, Some(core)) = (driver, self.core) {
            let cores: Vec<_> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
            if !cores.contains(&core) || !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
                return Err(NoSuchCore(core, cores).into());
            }
        }
        let arena = usize::try_from(arena).unwrap_or(usize::MAX);
        let mut builder = self.builder().progress(progress).arena(arena).spin(self.spin.unwrap_or(spin));
        if let Some(address) = self.address_for(peer)? {
            builder = builder.address(address);
        }
        Ok(builder.open()?)
    }

    /// Says which faults have been made, if any were asked for.
    pub(crate) fn say_faults(&self, node: &Node) -> Result<(), vmmc::Error> {
        let Some(faults) = self.fault else { return Ok(()) };
        let port = node.stats()?.port;
        let (sent, received) = (("sent", port.tx_faults), ("received", port.rx_faults));
        let ways = match faults.on {
            Way::Send => vec![sent],
            Way::Receive => vec![received],
            Way::Both => vec![sent, received],
        };
        for (what, FaultCounters { dropped, duplicated, delayed, corrupted, spared }) in ways {
            say(format_args!(
                "faults in what was {what}: {dropped} dropped, {duplicated} duplicated, {delayed} delayed, \
                 {corrupted} corrupted, {spared} spared"
            ));
        }
        Ok(())
    }

    /// The node's address, where it isn't the interface's default.
    fn address_for(&self, peer: Option<SocketAddr>) -> Result<Option<IpAddr>, vmmc::Error> {
        if self.address.is_some() || !peer.is_some_and(|p| p.is_ipv6()) {
            return Ok(self.address);
        }
        let interface = Routes::open()?.interface(&self.interface)?;
        let global = |a: &IpAddr| matches!(a, IpAddr::V6(v6) if !v6.is_unicast_link_local());
        // If it has none, the error comes when the peer is called, and says so.
        Ok(interface.addresses.into_iter().map(|(address, _)| address).find(global))
    }

    fn builder(&self) -> Builder {
        let mut builder = Node::builder().interface(&self.interface).port(self.port).checksum(!self.no_checksum);
        if let Some(queue) = self.queue {
            builder = builder.queue(queue);
        }
        if self.no_bulk {
            builder = builder.bulk(Bulk::Never);
        }
        if self.require_zero_copy {
            builder = builder.bulk(Bulk::RequireZeroCopy);
        }
        if let Some(mtu) = self.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(timeout) = self.peer_timeout {
            builder = builder.peer_timeout(timeout);
        }
        if let Some(faults) = self.fault {
            builder = builder.faults(faults);
        }
        if let Some(address) = self.metrics {
            builder = builder.metrics(address);
        }
        builder
    }
}

fn parse_spin(text: &str) -> Result<Duration, String> {
    if text == "forever" {
        return Ok(Duration::MAX);
    }
    let micros = text.parse().map_err(|_| "a number of microseconds, or \"forever\"")?;
    Ok(Duration::from_micros(micros))
}

/// A duration in seconds, with decimals.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds.ok_or_else(|| "a number of seconds, like 2 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_spin("50"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_spin("forever"), Ok(Duration::MAX));
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "-1", "x", "NaN", "inf", "1e300"] {
            assert!(parse_spin(bad).is_err() && parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
