//! Says what arrives in an export.

use std::sync::atomic::Ordering;

use vmmc::{Error, Export};

use super::Shared;
use crate::output::say;

/// Prints a line for every notification.
pub(super) fn run(shared: &Shared, export: &Export) -> Result<(), Error> {
    while !shared.ending() {
        let Some(news) = shared.next(export)? else { continue };
        shared.tally.announced.fetch_add(1, Ordering::Relaxed);
        let (name, length, offset, tag) = (export.name(), news.length, news.offset, news.tag);
        say(format_args!("{} wrote {length} bytes into {name:?} at {offset}, tag {tag}", news.peer));
    }
    Ok(())
}
