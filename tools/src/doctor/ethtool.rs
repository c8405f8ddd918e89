//! What `ethtool` says of a port, read off its text.
//!
//! The same could be asked for by netlink, as the library does for the two things it needs (`vmmc::route`). But ring sizes, hash
//! table and moderation come by half a dozen messages, one of them still an ioctl, and only to be shown: ethtool is required anyway,
//! and its text has been the same for years. What a driver doesn't know it leaves out or refuses, and then it is missing here.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use tracing::debug;
use vmmc::DEFAULT_PORT;

use super::facts::{Channels, Ethtool, Switch};

/// Where it is found: ordinary users don't have the second in their PATH.
const PROGRAMS: [&str; 3] = ["ethtool", "/usr/sbin/ethtool", "/sbin/ethtool"];

/// Whether it is installed.
pub(super) fn is_installed() -> bool {
    run(&["--version"]).is_some()
}

/// Asks it everything about a port. In the network namespace of this process.
pub(super) fn ask(port: &str) -> Ethtool {
    let text = |option| run(&[option, port]).unwrap_or_default();
    let (moderation, info, hash) = (text("-c"), text("-i"), text("-x"));
    Ethtool {
        driver: value(&info, "driver").map(str::to_owned),
        channels: channels(&text("-l")),
        rx_ring: rx_ring(&text("-g")),
        features: features(&text("-k")),
        hash_queues: hash_queues(&hash),
        hash_last: hash_last(&hash),
        bulk_filter: filter_of(&text("-n"), DEFAULT_PORT + 1),
        rx_usecs: number(&moderation, "rx-usecs"),
        adaptive_rx: adaptive_rx(&moderation),
    }
}

/// Its output, also where it ends with an error; `None` when it isn't installed.
fn run(args: &[&str]) -> Option<String> {
    for program in PROGRAMS {
        match Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output() {
            Ok(output) => {
                debug!(target: "vmmc::doctor", program, ?args, status = %output.status, "asked");
                return Some(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    None
}

/// What stands behind `key:` in the first line that begins so.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

fn number(text: &str, key: &str) -> Option<u32> {
    value(text, key)?.parse().ok()
}

/// The two parts of what `-l` and `-g` say: what could be, and what is.
fn parts(text: &str) -> Option<(&str, &str)> {
    text.split_once("Pre-set maximums:")?.1.split_once("Current hardware settings:")
}

fn channels(text: &str) -> Option<Channels> {
    let (most, _) = parts(text)?;
    let count = |key| number(most, key).filter(|&n| n > 0);
    Some(Channels { rx: count("RX"), tx: count("TX"), combined: count("Combined") })
}

fn rx_ring(text: &str) -> Option<(u32, u32)> {
    let (most, now) = parts(text)?;
    Some((number(now, "RX")?, number(most, "RX")?))
}

fn features(text: &str) -> HashMap<String, Switch> {
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    let switches = lines.filter_map(|(name, state)| {
        let (on, fixed) = match state.split_whitespace().collect::<Vec<_>>()[..] {
            ["on", ref rest @ ..] => (true, rest.contains(&"[fixed]")),
            ["off", ref rest @ ..] => (false, rest.contains(&"[fixed]")),
            _ => return None,
        };
        Some((name.to_owned(), Switch { on, fixed }))
    });
    switches.collect()
}

fn hash_queues(text: &str) -> Option<u32> {
    let before = text.lines().next()?.split_once(" RX ring(s)")?.0;
    before.rsplit(' ').next()?.parse().ok()
}

/// The largest queue number in the table, whose lines are `place: queue queue ...`.
fn hash_last(text: &str) -> Option<u32> {
    let table = text.lines().skip(1).map_while(|line| {
        let (place, queues) = line.split_once(':')?;
        place.trim().parse::<u32>().ok()?;
        queues.split_whitespace().map(|queue| queue.parse::<u32>().ok()).collect::<Option<Vec<_>>>()
    });
    table.flatten().max()
}

/// The queue to which a rule steers all that goes to this port by UDP over IPv4. Rules are paragraphs.
fn filter_of(text: &str, port: u16) -> Option<u32> {
    text.split("\n\n").find_map(|rule| {
        let udp = value(rule, "Rule Type")? == "UDP over IPv4";
        let mut words = value(rule, "Dest port")?.split_whitespace();
        // The bits that are set in the mask don't count.
        let whole = words.next()?.parse() == Ok(port) && words.last() == Some("0x0");
        let queue = value(rule, "Action")?.strip_prefix("Direct to queue ")?.parse().ok()?;
        (udp && whole).then_some(queue)
    })
}

fn adaptive_rx(text: &str) -> Option<bool> {
    match value(text, "Adaptive RX")?.split_whitespace().next()? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_a_nic_and_of_a_veth() {
        let nic = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n\
                   Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t4\n";
        assert_eq!(channels(nic), Some(Channels { rx: None, tx: None, combined: Some(8) }));
        let veth = "Channel parameters for v:\nPre-set maximums:\nRX:\t\t2\nTX:\t\t2\nOther:\t\tn/a\nCombined:\tn/a\n\
                    Current hardware settings:\nRX:\t\t1\nTX:\t\t1\nOther:\t\tn/a\nCombined:\tn/a\n";
        assert_eq!(channels(veth), Some(Channels { rx: Some(2), tx: Some(2), combined: None }));
        assert_eq!(channels("netlink error: Operation not supported\n"), None);
    }

    #[test]
    fn rings() {
        let text = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n\
                    Current hardware settings:\nRX:\t\t256\nRX Mini:\tn/a\nTX:\t\t256\nRX Buf Len:\tn/a\n";
        assert_eq!(rx_ring(text), Some((256, 4096)));
        assert_eq!(rx_ring(""), None);
    }

    #[test]
    fn features_are_on_off_and_perhaps_fixed() {
        let text = "Features for eth0:\nrx-checksumming: on\n\ttx-checksum-ipv4: off [fixed]\n\
                    large-receive-offload: off [fixed]\nntuple-filters: off\nrx-vlan-offload: on [requested off]\n";
        let found = features(text);
        assert_eq!(found.len(), 5);
        assert_eq!(found["tx-checksum-ipv4"], Switch { on: false, fixed: true });
        assert_eq!(found["ntuple-filters"], Switch { on: false, fixed: false });
        assert_eq!(found["rx-vlan-offload"], Switch { on: true, fixed: false });
    }

    #[test]
    fn filters() {
        let rule = |kind: &str, port: u16, mask: &str, action: &str| {
            format!(
                "Filter: 1023\n\tRule Type: {kind}\n\tSrc IP addr: 0.0.0.0 mask: 255.255.255.255\n\tDest IP addr: 0.0.0.0 mask: 255.255.255.255\n\
                 \tTOS: 0x0 mask: 0xff\n\tSrc port: 0 mask: 0xffff\n\tDest port: {port} mask: {mask}\n\tAction: {action}\n\n"
            )
        };
        let text =
            |rules: &[String]| format!("4 RX rings available\nTotal {} rules\n\n{}", rules.len(), rules.concat());
        let ours = rule("UDP over IPv4", 7001, "0x0", "Direct to queue 3");
        let other = rule("UDP over IPv4", 53, "0x0", "Direct to queue 1");
        assert_eq!(filter_of(&text(&[other.clone(), ours.clone()]), 7001), Some(3));
        assert_eq!(filter_of(&text(&[ours, other.clone()]), 53), Some(1));
        let not_ours = [
            rule("TCP over IPv4", 7001, "0x0", "Direct to queue 3"),
            rule("UDP over IPv4", 7001, "0xffff", "Direct to queue 3"),
            rule("UDP over IPv4", 7001, "0x0", "Drop"),
            other,
        ];
        assert_eq!(filter_of(&text(&not_ours), 7001), None);
        assert_eq!(filter_of("rxclass: Cannot get RX class rule count: Operation not supported\n", 7001), None);
    }

    #[test]
    fn hash_and_moderation() {
        let hash = "RX flow hash indirection table for eth0 with 4 RX ring(s):\n    0:      0     1     2     3\n";
        assert_eq!(hash_queues(hash), Some(4));
        let no_hash = "Cannot get RX ring count: Operation not supported\n";
        assert_eq!((hash_queues(no_hash), hash_last(no_hash)), (None, None));
        let spread = "RX flow hash indirection table for eth0 with 4 RX ring(s):\n    0:      0     1     2     0     1     2     0     1\n\
                      \x20   8:      2     0     1     2     0     1     2     0\nRSS hash key:\n1e:ad:71:87\nRSS hash function:\n    toeplitz: on\n";
        assert_eq!((hash_queues(spread), hash_last(spread)), (Some(4), Some(2)));
        assert_eq!(hash_last(hash), Some(3));
        let text = "Coalesce parameters for eth0:\nAdaptive RX: on  TX: off\nstats-block-usecs:\tn/a\nrx-usecs:\t3\nrx-usecs-irq:\t0\n";
        assert_eq!((adaptive_rx(text), number(text, "rx-usecs")), (Some(true), Some(3)));
        assert_eq!((adaptive_rx("Adaptive RX: n/a  TX: n/a"), number("rx-usecs:\tn/a", "rx-usecs")), (None, None));
    }
}
