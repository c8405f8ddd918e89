//! When each peer wants to be attended to: what a turn costs doesn't depend on how many peers are idle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// How many timers may be out of date before the heap is cleared of them.
const SLACK: usize = 64;

/// A timer for each place in the table of peers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, usize)>>,
    /// What each place's timer is set to. Anything else in the heap is out of date.
    set: Vec<Option<Time>>,
}

impl Timers {
    /// Has a place come up at `at`, unless it does before: whoever comes up too early sets its timer again. So a deadline that moves
    /// on with every packet costs nothing.
    pub(super) fn set(&mut self, place: usize, at: Time) {
        if self.set.len() <= place {
            self.set.resize(place + 1, None);
        }
        if self.set[place].is_none_or(|earlier| at < earlier) {
            self.set[place] = Some(at);
            if self.heap.len() >= 4 * self.set.len() + SLACK {
                let set = self.set.iter().enumerate();
                self.heap = set.filter_map(|(place, at)| at.map(|at| Reverse((at, place)))).collect();
            } else {
                self.heap.push(Reverse((at, place)));
            }
        }
    }

    /// A place whose time has come by `now`. Its timer is no longer set.
    pub(super) fn due(&mut self, now: Time) -> Option<usize> {
        while let Some(&Reverse((at, place))) = self.heap.peek() {
            let current = self.set[place] == Some(at);
            if current && at > now {
                break;
            }
            self.heap.pop();
            if current {
                self.set[place] = None;
                return Some(place);
            }
        }
        None
    }

    /// When the next one may come up.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_up_in_time_and_once() {
        let (mut timers, at) = (Timers::default(), Time::from_nanos);
        timers.set(3, at(30));
        timers.set(1, at(10));
        timers.set(3, at(20));
        timers.set(1, at(15)); // comes up at 10 all the same
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.due(at(9)), None);
        assert_eq!(timers.due(at(25)), Some(1));
        assert_eq!(timers.due(at(25)), Some(3));
        assert_eq!(timers.due(at(100)), None);
        assert_eq!(timers.next(), None);
    }
    #[test]
    fn timers_out_of_date_don_t_pile_up() {
        let mut timers = Timers::default();
        for nanos in (1..100_000).rev() {
            timers.set(0, Time::from_nanos(nanos));
        }
        assert!(timers.heap.len() <= 4 + SLACK);
        assert_eq!(timers.due(Time::from_nanos(1)), Some(0));
        assert_eq!(timers.due(Time::from_nanos(1)), None);
        assert_eq!(timers.next(), None);
    }
}
