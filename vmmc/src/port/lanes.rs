//! Both lanes of a node as one port.
//!
//! [`Lanes`] is the eager port in everything, and offers the bulk port beside it: so whoever drives a node sends, sleeps and flushes as if there were one
//! lane, and who knows of the other asks for it with [`Port::bulk`].

use std::io;

use super::bulk::BulkPort;
use super::{Descriptors, Layer, Port};

/// A port with a bulk lane.
pub struct Lanes {
    /// All packets that aren't the bulk lane's.
    pub eager: Box<dyn Port>,
    /// The bulk lane.
    pub bulk: Box<dyn BulkPort>,
}

impl Layer for Lanes {
    fn inner(&self) -> &dyn Port {
        &*self.eager
    }

    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut *self.eager
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither waits for the other: when one fails, what is queued in the other is sent all the same.
        let eager = self.eager.flush();
        self.bulk.flush().and(eager)
    }

    fn readable(&self) -> Descriptors<'_> {
        let mut descriptors = self.eager.readable();
        descriptors.extend(self.bulk.readable());
        descriptors
    }

    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        Some(&mut *self.bulk)
    }

    fn bulk_ref(&self) -> Option<&dyn BulkPort> {
        Some(&*self.bulk)
    }
}
