//! Taking places back: of transfers that are abandoned, of memory that its owner wants again, of peers that have gone.
//!
//! Single places can't be taken back, so the port is opened anew, and what others were granted is posted again. That costs time, and is done only if places are posted at all: a transfer whose places
//! have all been used up is abandoned for nothing. Whose fault it was isn't [trusted](crate::bulk::trust) for a while.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::Range;

use super::super::{Engine, RedirectId};
use super::Thresholds;
use super::granted::{Granted, Home};
use crate::log::provoked;
use crate::port::Port;
use crate::time::Time;

/// How often the lane is tried to be opened again.
const TRIES: usize = 5;

/// What has been taken out of the lane.
struct Removed {
    /// The first transfer of each peer.
    firsts: Vec<(u64, u32)>,
    /// Places of it are still posted.
    posted: bool,
}

impl Engine {
    /// Takes back all places, and posts those again that are still wanted.
    pub(super) fn reopen(&mut self, port: &mut dyn Port) {
        let (Some(lane), Some(bulk)) = (&mut self.lane, port.bulk()) else { return };
        self.counters.bulk_reopened += 1;
        let consistent = bulk.is_consistent();
        // Each try lasts for a second at the most. On a host with much to do one may not be enough.
        let mut result = bulk.reopen();
        for _ in 1..TRIES {
            if result.is_ok() {
                break;
            }
            result = bulk.reopen();
        }
        if let Err(error) = result {
            self.give_up_lane(&error);
            return;
        }
        lane.unclear.clear();
        for granted in &mut lane.open {
            granted.reopened(consistent);
            // What they could do meanwhile was nothing.
            granted.incoming.held_up(lane.seen);
        }
        // What is condemned will be seen to in the next turn.
        self.awake |= lane.post(bulk) || lane.open.iter().any(|granted| granted.condemned);
    }

    /// From now on everything goes by the eager lane.
    pub(super) fn give_up_lane(&mut self, why: &dyn Display) {
        tracing::warn!(target: "vmmc::bulk", %why, "the bulk lane has been given up: everything goes by the eager lane from now on");
        let Some(lane) = &mut self.lane else { return };
        lane.broken = true;
        lane.used = Thresholds::NONE;
        // What they fetch goes by the eager lane, too.
        self.peers.iter_mut().flatten().for_each(|peer| peer.bulk = Thresholds::NONE);
        for (token, transfer) in self.remove(|_| true, true).firsts {
            self.decline(token, transfer);
        }
        // Who waits for a grant would wait for ever.
        while let Some((token, transfer)) = self.lane.as_ref().and_then(|lane| lane.schedule.first_waiting()) {
            self.decline(token, transfer);
        }
    }

    /// Abandons transfers, and those of the same peers that were granted after them: their memory is free when this returns. They come by the eager lane, and with `decline` their
    /// senders are told so; with `now` at once, and not only after places have been taken back. Returns whether that had to be done.
    pub(super) fn abandon(
        &mut self,
        now: Option<Time>,
        port: &mut dyn Port,
        which: impl Fn(&Granted) -> bool,
        decline: bool,
    ) -> bool {
        let Removed { firsts, posted } = self.remove(which, true);
        for (token, transfer) in firsts {
            provoked!(DEBUG, target: "vmmc::bulk", transfer, "transfer abandoned");
            if !decline {
                continue;
            }
            self.decline(token, transfer);
            if let (Some(now), Some(peer)) = (now.filter(|_| posted), self.peer_mut(token)) {
                peer.pump(now, port);
            }
        }
        if posted {
            // If the wire is gone, whoever flushes next hears of it.
            let _ = port.flush();
            self.reopen(port);
        }
        posted
    }

    /// Takes transfers out of the lane, and with `all` those of the same peers behind them. What places they have are still posted.
    fn remove(&mut self, which: impl Fn(&Granted) -> bool, all: bool) -> Removed {
        let mut removed = Removed { firsts: Vec::new(), posted: false };
        let Some(lane) = &mut self.lane else { return removed };
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for granted in std::mem::take(&mut lane.open) {
            let token = granted.run.token;
            let follows = all && removed.firsts.iter().any(|&(of, _)| of == token);
            if !follows && !which(&granted) {
                kept.push(granted);
                continue;
            }
            if !follows {
                removed.firsts.push((token, granted.transfer));
            }
            if granted.incoming.unused() > 0 {
                removed.posted = true;
                if let Home::Export { id, reserved } = &granted.home
                    && reserved.redirect.is_none()
                {
                    lane.unclear.push((*id, reserved.run.clone()));
                }
            }
            lane.schedule.closed(token, granted.transfer);
            gone.push(granted);
        }
        lane.open = kept;
        // The last one's room was reserved behind the others': so none leaves a hole.
        for granted in gone.into_iter().rev() {
            self.counters.rx_bulk_abandoned += 1;
            self.leave_home(granted);
        }
        removed
    }

    /// A peer has cost everybody time. It is granted nothing for a while, and what it waits for goes another way.
    pub(super) fn blame(&mut self, token: u64) {
        let Some(host) = self.peer(token).map(|peer| peer.link.peer().ip()) else { return };
        let Some(lane) = &mut self.lane else { return };
        let span = lane.trust.blame(lane.seen, host);
        provoked!(DEBUG, target: "vmmc::bulk", peer = %host, ?span, "a peer doesn't use what it is granted: it gets nothing for a while");
        if let Some(request) = lane.schedule.withdraw(token).first() {
            self.decline(token, request.transfer);
        }
    }

    /// A peer sends no more of a transfer. Returns whether that one was granted; `None` when nobody knows it.
    pub(super) fn drop_transfer(&mut self, port: &mut dyn Port, token: u64, transfer: u32) -> Option<bool> {
        let removed = self.remove(|granted| (granted.run.token, granted.transfer) == (token, transfer), false);
        let lane = self.lane.as_mut()?;
        if !removed.firsts.is_empty() {
            if removed.posted {
                self.reopen(port);
            }
            return Some(removed.posted);
        }
        lane.asked.remove(&(token, transfer))?;
        lane.schedule.cancel(token, transfer);
        Some(false)
    }

    /// Nothing of a transfer comes to where it belongs.
    pub(super) fn leave_home(&mut self, granted: Granted) {
        match granted.home {
            Home::Export { id, reserved } => {
                drop(granted.target);
                if let Some(export) = self.exports.get_mut(id) {
                    export.landing.release(reserved);
                }
            }
            Home::Fetch { request } => {
                self.imports.fetches.unland(granted.run.token, request, granted.start as u64);
            }
        }
    }

    /// Takes back all that the kernel may still touch: places, and what is to be sent. What is still wanted is posted again.
    pub fn clear_lane(&mut self, port: &mut dyn Port) {
        self.reopen(port);
    }

    /// A link to this host has ended: what it was granted is abandoned.
    pub(in crate::engine) fn end_transfers(&mut self, port: &mut dyn Port, token: u64, host: IpAddr) {
        let Some(lane) = &mut self.lane else { return };
        lane.asked.retain(|&(of, _), _| of != token);
        lane.schedule.withdraw(token);
        let posted = self.abandon(None, port, |granted| granted.run.token == token, false);
        if let Some(lane) = &mut self.lane {
            lane.schedule.forget(token);
            if posted {
                lane.trust.blame(lane.seen, host);
            }
        }
    }

    /// Before a part of an export is lent: nothing lands in it any more. Returns whether that is certain.
    pub(in crate::engine) fn clear_range(&mut self, port: &mut dyn Port, export: u32, range: &Range<u64>) -> bool {
        let meets = |run: &Range<u64>| run.start < range.end && range.start < run.end;
        let within = |granted: &Granted| match &granted.home {
            Home::Export { id, reserved } => *id == export && reserved.redirect.is_none() && meets(&reserved.run),
            Home::Fetch { .. } => false,
        };
        if self.lane.as_ref().is_some_and(|lane| lane.open.iter().any(within)) {
            self.abandon(None, port, within, true);
        }
        self.lane.as_ref().is_none_or(|lane| lane.unclear.iter().all(|(id, run)| *id != export || !meets(run)))
    }

    /// Before what was to be fetched is given back: nothing lands in it any more.
    pub(in crate::engine) fn clear_fetch(&mut self, port: &mut dyn Port, fetch: u32) {
        let of = |granted: &Granted| matches!(granted.home, Home::Fetch { request } if request == fetch);
        if self.lane.as_ref().is_some_and(|lane| lane.open.iter().any(of)) {
            self.abandon(None, port, of, true);
        }
    }

    /// An export has gone: nothing may land in it any more.
    pub(in crate::engine) fn condemn(&mut self, export: u32) {
        let Some(lane) = &mut self.lane else { return };
        for granted in &mut lane.open {
            granted.condemned |= matches!(granted.home, Home::Export { id, .. } if id == export);
        }
        self.awake = true;
    }

    /// Before a redirect's memory is given back: nothing lands in it any more.
    pub(in crate::engine) fn clear_redirect(&mut self, port: &mut dyn Port, export: u32, id: RedirectId) {
        let of = |granted: &Granted| match &granted.home {
            Home::Export { id: of, reserved } => *of == export && reserved.redirect == Some(id),
            Home::Fetch { .. } => false,
        };
        if self.lane.as_ref().is_some_and(|lane| lane.open.iter().any(of)) {
            self.abandon(None, port, of, true);
        }
    }
}
