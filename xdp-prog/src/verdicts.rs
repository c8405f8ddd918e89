//! What the program decided, counted: one counter for each way a frame can go.

use serde::{Deserialize, Serialize};

/// Defines [`Verdicts`] from one list, so that a field, its name and its place can't disagree.
macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Frames seen since the program was loaded, by verdict, summed over all CPUs.
        ///
        /// Every frame counts once. The `redirected` and `bulk_admitted` ones went to a socket, the other ones whose
        /// names begin with `bulk` were dropped, and all others went on to the kernel.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Verdicts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Verdicts {
            const NAMES: &[&str] = &[$(stringify!($name)),+];
            /// How many there are: the program's counters are numbered from 0 up to here.
            pub(crate) const COUNT: usize = Self::NAMES.len();

            /// From the program's counters in its own order.
            pub(crate) fn from_counts([$($name),+]: [u64; Self::COUNT]) -> Self {
                Self { $($name),+ }
            }

            fn counts(&self) -> [u64; Self::COUNT] {
                [$(self.$name),+]
            }
        }
    };
}

// In the order of `enum verdict` in verdicts.h.
verdicts! {
    /// The node's, and handed to the AF_XDP socket of its queue.
    redirected,
    /// The node's, but its queue has no socket (yet), or only that of the bulk lane: the kernel gets it.
    no_socket,
    /// UDP to the node's address, to another port.
    other_port,
    /// IP to an address that is not the node's.
    other_address,
    /// In another VLAN than the node's, or in one where the node is in none, or the other way round.
    other_vlan,
    /// To the node's address, but not UDP: TCP, ICMP ...
    not_udp,
    /// Neither IPv4 nor IPv6 (ARP, LLDP ...), or behind more than one VLAN tag or a provider's (802.1ad).
    not_ip,
    /// To the node's address, but a fragment: a peer sends more than the path's MTU.
    fragment,
    /// IPv6 to the node's address with an extension header in front of what it carries.
    extension_header,
    /// Ends inside a header.
    truncated,
    /// An IP header with the wrong version or an impossible length.
    malformed,
    /// On the bulk lane, and let in: it lands at the next place.
    bulk_admitted,
    /// On the bulk lane, but the next place is for packets of another sender, link or grant. Dropped.
    bulk_stale,
    /// On the bulk lane, but longer or shorter than the place that is for it, or so short that its headers can't be
    /// taken off. Dropped.
    bulk_length,
    /// On the bulk lane, but no place is left, or there is no socket. Dropped.
    bulk_no_place,
    /// On the bulk lane, but not on its queue, or there is no lane. Dropped.
    bulk_other_queue,
}

impl Verdicts {
    /// Name and count of every verdict, in the order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        Self::NAMES.iter().copied().zip(self.counts())
    }

    /// All frames the program saw.
    pub fn total(&self) -> u64 {
        self.counts().iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_counts_keep_the_order_of_the_program() {
        let verdicts = Verdicts::from_counts(std::array::from_fn(|i| i as u64 + 1));
        assert_eq!(verdicts.redirected, 1);
        assert_eq!(verdicts.malformed, 11);
        assert_eq!(verdicts.bulk_other_queue, 16);
        assert_eq!(verdicts.iter().next(), Some(("redirected", 1)));
        assert_eq!(verdicts.iter().last(), Some(("bulk_other_queue", 16)));
        assert_eq!(verdicts.total(), 136);
    }
}
