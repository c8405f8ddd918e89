//! Answers pings: what a client writes into its slot of `vmmc.ping` goes back into its reply buffer.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::debug;
use vmmc::{Error, Export, Notification};

use super::Shared;
use super::reply::{Reply, read_open};
use crate::protocol::{Answer, MAX_PING, Open, PING_SLOTS, is_door, ping_slot, ping_slot_at};

/// How many clients may wait to be met. Those after them try again.
const QUEUE: usize = 16;

/// Who has which slot.
type Slots = Mutex<[Option<Arc<Reply>>; PING_SLOTS]>;

fn lock(slots: &Slots) -> MutexGuard<'_, [Option<Arc<Reply>>; PING_SLOTS]> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers pings.
pub(super) fn run(shared: &Shared, export: &Export) -> Result<(), Error> {
    let slots = Slots::default();
    let (introduce, newcomers) = sync_channel(QUEUE);
    thread::scope(|scope| {
        // Importing waits for the client, so that isn't done by who answers all others.
        scope.spawn(|| meet(shared, &slots, newcomers));
        let result = echo(shared, export, &slots, &introduce);
        // Its end is the other thread's, too.
        drop(introduce);
        result
    })
}

fn echo(
    shared: &Shared,
    export: &Export,
    slots: &Slots,
    introduce: &SyncSender<(Notification, Open)>,
) -> Result<(), Error> {
    let mut bytes = vec![0; MAX_PING as usize];
    while !shared.ending() {
        let Some(news) = shared.next(export)? else {
            forget_the_dead(slots);
            continue;
        };
        if is_door(news.offset) {
            if let Some(open) = read_open(export, &news) {
                let _ = introduce.try_send((news, open));
            }
            continue;
        }
        let Some(slot) = ping_slot_at(news.offset).filter(|_| news.length <= MAX_PING) else { continue };
        let Some(client) = lock(slots)[slot].clone().filter(|c| c.peer() == news.peer) else { continue };
        let ping = &mut bytes[..news.length as usize];
        export.read(news.offset, ping)?;
        match client.echo(ping, news.tag) {
            Ok(()) => drop(shared.tally.pings.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                debug!(target: "vmmc::serve", peer = %news.peer, %error, "a ping is not answered");
                lock(slots)[slot].take_if(|c| Arc::ptr_eq(c, &client));
            }
        }
    }
    Ok(())
}

/// Gives slots to new clients.
fn meet(shared: &Shared, slots: &Slots, newcomers: Receiver<(Notification, Open)>) {
    for (news, open) in newcomers {
        if shared.ending() {
            return;
        }
        let client = match Reply::open(&shared.node, news.peer, open) {
            Ok(client) => Arc::new(client),
            Err(error) => {
                debug!(target: "vmmc::serve", peer = %news.peer, %error, "a new client is not there any more");
                continue;
            }
        };
        forget_the_dead(slots);
        let slot = {
            let mut slots = lock(slots);
            // A node is one process: what the same address had before is over.
            let own = slots.iter().position(|s| s.as_ref().is_some_and(|c| c.peer() == news.peer));
            let slot = own.or_else(|| slots.iter().position(Option::is_none));
            if let Some(slot) = slot {
                slots[slot] = Some(client.clone());
            }
            slot
        };
        let answer = match slot {
            Some(slot) => Answer::Ready { at: ping_slot(slot) },
            None => Answer::Refused { why: format!("{PING_SLOTS} others are pinging: try again later") },
        };
        if let Err(error) = client.answer(&answer) {
            debug!(target: "vmmc::serve", peer = %news.peer, %error, "a new client can't be answered");
        }
    }
}

/// Frees the slots of clients that have died.
fn forget_the_dead(slots: &Slots) {
    for slot in lock(slots).iter_mut() {
        slot.take_if(|client| client.check().is_err());
    }
}
