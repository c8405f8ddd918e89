//! Which ports are whose, as with TCP.

use std::collections::HashMap;

/// Ports that are given to those who don't ask for one: Linux's range.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// The ports in use.
#[derive(Debug)]
pub(super) struct Ports {
    /// By how many listeners and streams.
    used: HashMap<u16, u32>,
    next: u16,
}

impl Default for Ports {
    fn default() -> Ports {
        // As with TCP, not always the same ones first.
        use std::hash::{BuildHasher, RandomState};
        let span = u64::from(EPHEMERAL.end() - EPHEMERAL.start());
        let start = RandomState::new().hash_one(0) % span;
        Ports { used: HashMap::new(), next: EPHEMERAL.start() + start as u16 }
    }
}

impl Ports {
    /// One that nobody uses. `None` when all are in use.
    pub(super) fn ephemeral(&mut self) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.next;
            self.next = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !self.used.contains_key(&port) {
                self.take(port);
                return Some(port);
            }
        }
        None
    }

    /// One more uses it.
    pub(super) fn take(&mut self, port: u16) {
        *self.used.entry(port).or_insert(0) += 1;
    }

    /// One fewer.
    pub(super) fn release(&mut self, port: u16) {
        if let std::collections::hash_map::Entry::Occupied(mut entry) = self.used.entry(port) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_given_once_until_it_comes_back() {
        let mut ports = Ports::default();
        let mut given: Vec<u16> = std::iter::from_fn(|| ports.ephemeral()).collect();
        given.sort_unstable();
        assert_eq!(given, EPHEMERAL.collect::<Vec<_>>());
        ports.take(40_000);
        ports.release(40_000);
        assert_eq!(ports.ephemeral(), None);
        ports.release(40_000);
        assert_eq!(ports.ephemeral(), Some(40_000));
        // Nobody's.
        ports.release(1);
        assert_eq!(ports.ephemeral(), None);
    }
}
