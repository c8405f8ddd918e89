//! Replacement policies: which page goes when another one needs its frame.
//!
//! A policy hears when a page is pinned to a frame, used and unpinned, and is asked for a victim. Some frames must stay where they are: those of
//! transfers in flight, and those whose pages somebody writes at the moment. A policy that meets one of these on its search sets it aside, and
//! hears when it may be moved again. So each is met once, however many there are, and nobody has to tell the policy of holds, which come and
//! go with every transfer.

mod random;
mod ranked;
mod recency;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::random::Random;
use self::ranked::Ranked;
use self::recency::Recency;
use super::UnknownName;

/// A replacement policy over frames, which are small numbers.
///
/// Between `pinned` and `unpinned` a frame belongs to one page. The caller keeps to that order.
pub trait Policy: Send {
    /// A page has been pinned to this frame. That counts as its first use.
    fn pinned(&mut self, frame: u32);

    /// The frame's page has been used. On the path of every hit: takes constant time.
    fn used(&mut self, frame: u32);

    /// The frame has no page any more.
    fn unpinned(&mut self, frame: u32);

    /// The first frame, in the order in which this policy gives them up, that is `movable`. It stays the policy's until it is `unpinned`. Those that
    /// aren't movable are set aside, and not asked for again before [`Policy::movable_again`].
    fn victim(&mut self, movable: &mut dyn FnMut(u32) -> bool) -> Option<u32>;

    /// A frame that was set aside may be moved again. Its place in the order is the one it would have if it had never been away.
    fn movable_again(&mut self, frame: u32);
}

/// The policies there are, as in the UTLB paper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// Least recently used goes first.
    #[default]
    Lru,
    /// Most recently used goes first: good for loops over more than there is room for.
    Mru,
    /// Least frequently used goes first, since it was pinned; among equals the least recently used.
    Lfu,
    /// Pinned first, goes first.
    Fifo,
    /// Any one goes.
    Random,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [PolicyKind; 5] =
        [PolicyKind::Lru, PolicyKind::Mru, PolicyKind::Lfu, PolicyKind::Fifo, PolicyKind::Random];

    /// A policy of this kind without any frames. `seed` is for [`PolicyKind::Random`]: the same one makes the same choices.
    pub fn policy(self, seed: u64) -> Box<dyn Policy> {
        match self {
            PolicyKind::Lru => Box::new(Recency::least()),
            PolicyKind::Mru => Box::new(Recency::most()),
            PolicyKind::Lfu => Box::new(Ranked::by_frequency()),
            PolicyKind::Fifo => Box::new(Ranked::by_age()),
            PolicyKind::Random => Box::new(Random::new(seed)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            PolicyKind::Lru => "lru",
            PolicyKind::Mru => "mru",
            PolicyKind::Lfu => "lfu",
            PolicyKind::Fifo => "fifo",
            PolicyKind::Random => "random",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<PolicyKind, UnknownName> {
        let found = PolicyKind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| UnknownName::new("policy", text, PolicyKind::ALL.map(PolicyKind::name)))
    }
}

/// The element for `frame` of a vector that grows with the frames it has seen.
fn slot<T: Clone + Default>(slots: &mut Vec<T>, frame: u32) -> &mut T {
    let at = frame as usize;
    if at >= slots.len() {
        slots.resize(at + 1, T::default());
    }
    &mut slots[at]
}

#[cfg(test)]
mod tests;
