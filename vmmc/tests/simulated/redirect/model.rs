//! What an export and its redirects should do, one byte at a time and as naive as can be.

use std::collections::VecDeque;
use std::ops::Range;

use vmmc::engine::{Place, RedirectEnd, RedirectId, Wanted};

/// What a target's bytes are before anything is written.
pub const BLANK: u8 = 0xee;

/// A redirect.
#[derive(Debug)]
pub struct Posted {
    pub id: RedirectId,
    pub wanted: Wanted,
    pub target: Vec<u8>,
    pub filled: Vec<bool>,
    pub received: usize,
    pub end: Option<RedirectEnd>,
}

impl Posted {
    /// Where a byte sent to `at` would go.
    fn wants(&self, at: usize) -> Option<usize> {
        if self.end.is_some() {
            return None;
        }
        match &self.wanted {
            Wanted::Range(range) => {
                let place = at.checked_sub(range.start as usize).filter(|&p| p < self.filled.len())?;
                Some(place).filter(|&p| !self.filled[p])
            }
            Wanted::Next(len) => Some(self.received).filter(|&p| p < *len as usize),
        }
    }

    /// Takes a byte.
    fn take(&mut self, place: usize, byte: u8) {
        (self.target[place], self.filled[place]) = (byte, true);
        self.received += 1;
        self.look();
    }

    fn look(&mut self) {
        if self.end.is_none() && self.received == self.filled.len() {
            self.end = Some(RedirectEnd::Full);
        }
    }

    pub fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for at in (0..self.filled.len()).filter(|&at| self.filled[at]) {
            let at = at as u64;
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => ranges.push(at..at + 1),
            }
        }
        ranges
    }
}

/// A notification that waits.
#[derive(Debug)]
pub struct News {
    pub offset: usize,
    pub tag: u32,
    pub sender: usize,
    /// Where each byte is.
    pub places: Vec<Place>,
}

/// An export.
#[derive(Debug)]
pub struct Model {
    pub memory: Vec<u8>,
    unclaimed: Vec<bool>,
    /// Where the byte is that has come last for each place.
    latest: Vec<Place>,
    taken_to: usize,
    pub redirects: Vec<Posted>,
    pub waiting: VecDeque<News>,
    pub moved: u64,
    pub redirected: u64,
}

impl Model {
    pub fn new(len: usize) -> Model {
        Model {
            memory: vec![0; len],
            unclaimed: vec![false; len],
            latest: vec![Place::Default; len],
            taken_to: 0,
            redirects: Vec::new(),
            waiting: VecDeque::new(),
            moved: 0,
            redirected: 0,
        }
    }

    /// A byte arrives.
    pub fn arrive(&mut self, at: usize, byte: u8) {
        let found = self.redirects.iter_mut().find_map(|r| r.wants(at).map(|place| (r, place)));
        self.latest[at] = match found {
            None => {
                (self.memory[at], self.unclaimed[at]) = (byte, true);
                Place::Default
            }
            Some((redirect, place)) => {
                redirect.take(place, byte);
                self.taken_to = at + 1;
                self.redirected += 1;
                Place::Redirect { redirect: redirect.id, at: place as u64 }
            }
        };
    }

    /// The last byte of a send that notifies has arrived.
    pub fn notify(&mut self, offset: usize, length: usize, tag: u32, sender: usize) {
        let places = self.latest[offset..offset + length].to_vec();
        self.waiting.push_back(News { offset, tag, sender, places });
    }

    /// From what was taken last to the end, and on from the beginning.
    fn in_turn(&self, range: Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let middle = self.taken_to.clamp(range.start, range.end);
        (middle..range.end).chain(range.start..middle)
    }

    pub fn post(&mut self, id: RedirectId, wanted: Wanted, room: usize) {
        let len = wanted.len() as usize;
        let (target, filled) = (vec![BLANK; room], vec![false; len]);
        let mut redirect = Posted { id, wanted, target, filled, received: 0, end: None };
        redirect.look();
        for at in self.in_turn(0..self.memory.len()) {
            let Some(place) = redirect.wants(at).filter(|_| self.unclaimed[at]) else { continue };
            redirect.take(place, self.memory[at]);
            self.unclaimed[at] = false;
            self.taken_to = at + 1;
            self.moved += 1;
            let there = Place::Redirect { redirect: id, at: place as u64 };
            if self.latest[at] == Place::Default {
                self.latest[at] = there;
            }
            for news in &mut self.waiting {
                if let Some(said) = at.checked_sub(news.offset).and_then(|n| news.places.get_mut(n))
                    && *said == Place::Default
                {
                    *said = there;
                }
            }
        }
        self.redirects.push(redirect);
    }

    pub fn claim(&mut self, range: Range<usize>) {
        for at in self.in_turn(range) {
            if std::mem::take(&mut self.unclaimed[at]) {
                self.taken_to = at + 1;
            }
        }
    }

    /// The program takes the notification at this place of the queue.
    pub fn told(&mut self, number: usize) -> Option<News> {
        let news = self.waiting.remove(number)?;
        let mut at = 0;
        // In runs, as they lie.
        while at < news.places.len() {
            let run = news.places[at..].iter().take_while(|p| **p == Place::Default).count();
            self.claim(news.offset + at..news.offset + at + run);
            at += run.max(1);
        }
        Some(news)
    }
}
