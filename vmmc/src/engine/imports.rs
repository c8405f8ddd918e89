//! Imports: the sender's handles on the exports of others.

use std::net::SocketAddr;

use super::events::{EventQueues, Report};
use super::fetch::Fetches;
use super::slab::Slab;
use super::{EngineError, Key};
use crate::link::LinkEnd;
use crate::log::provoked;
use crate::wire::record::{Access, ImportStatus, Refusal};

/// What an import is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImportState {
    /// The peer hasn't answered yet.
    Waiting,
    /// Sends may go.
    Ready {
        /// What may be done with it.
        access: Access,
        /// Length of the export, bytes.
        length: u64,
    },
    /// An export of this node itself.
    Local {
        /// Which.
        export: u32,
        /// What may be done with it.
        access: Access,
        /// Length of the export, bytes.
        length: u64,
    },
    /// It is of no use any more.
    Failed(EngineError),
}

/// An import.
#[derive(Debug)]
pub(crate) struct Import {
    pub name: String,
    pub key: Key,
    pub peer: SocketAddr,
    /// Our token of the link to the peer.
    pub link: u64,
    pub state: ImportState,
    /// The peer's grant, until it is given back.
    pub grant: Option<u32>,
    /// Sends from this sequence number on were refused.
    pub refused_from: Option<u64>,
    /// Transfers from this one on were refused.
    pub unwanted_from: Option<u32>,
    /// Sends begun, and their bytes.
    pub sends: u64,
    pub bytes: u64,
    /// Fetches begun, and their bytes.
    pub fetches: u64,
    pub fetched: u64,
    /// Its changes are events there.
    pub report: Option<Report>,
    /// One of these waits to be taken.
    pub announced: bool,
    /// Room for sends is to be another.
    pub wants_room: bool,
}

impl Import {
    /// Ends it for `error`, unless it has ended already.
    pub(crate) fn fail(&mut self, id: u32, error: EngineError, events: &mut EventQueues) {
        if !matches!(self.state, ImportState::Failed(_)) {
            self.state = ImportState::Failed(error);
            self.announce(id, events);
        }
    }
}

/// All imports of a node.
#[derive(Debug)]
pub(crate) struct Imports {
    pub(super) slab: Slab<Import>,
    pub fetches: Fetches,
    /// Theirs and those of exports.
    pub events: EventQueues,
    /// Those of exports of this node that wait for room in a full queue of notifications.
    pub wanting: Vec<u32>,
    /// How often the state of an import has changed.
    pub changes: u64,
}

impl Imports {
    pub(crate) fn new(most: usize) -> Imports {
        Imports {
            slab: Slab::new(most),
            fetches: Fetches::new(),
            events: EventQueues::default(),
            wanting: Vec::new(),
            changes: 0,
        }
    }

    pub(crate) fn insert(&mut self, import: Import) -> Result<u32, EngineError> {
        self.slab.insert(import).map_err(|_| EngineError::TooManyImports)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Import> {
        self.slab.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Import> {
        self.slab.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Import)> {
        self.slab.iter()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Import> {
        let import = self.slab.remove(id)?;
        self.events.forget_import(id, &import);
        if import.wants_room {
            self.wanting.retain(|&wanting| wanting != id);
        }
        Some(import)
    }

    /// Takes the answer to a request. Returns whether anybody still wants it.
    pub(crate) fn answered(
        &mut self,
        link: u64,
        request: u32,
        status: ImportStatus,
        grant: u32,
        access: Access,
        length: u64,
    ) -> bool {
        let Some(import) = self.slab.get_mut(request).filter(|i| i.link == link && i.state == ImportState::Waiting)
        else {
            return false;
        };
        self.changes += 1;
        let (peer, name) = (import.peer, import.name.clone());
        match status {
            ImportStatus::Granted => {
                provoked!(INFO, target: "vmmc::engine", %peer, export = name, length, notifies = access.notifies, readable = access.readable, "imported")
            }
            _ => provoked!(DEBUG, target: "vmmc::engine", %peer, export = name, ?status, "import refused by the peer"),
        }
        import.grant = (status == ImportStatus::Granted).then_some(grant);
        import.state = match status {
            ImportStatus::Granted => ImportState::Ready { access, length },
            ImportStatus::UnknownName => ImportState::Failed(EngineError::UnknownName { peer, name }),
            ImportStatus::Denied => ImportState::Failed(EngineError::Denied { peer, name }),
            ImportStatus::TooMany => ImportState::Failed(EngineError::TooManyGrants { peer, name }),
        };
        import.announce(request, &mut self.events);
        true
    }

    /// The peer no longer honours an import's grant; with `refused`, the packet of that number was the first it refused, and that was why.
    pub(crate) fn revoked(&mut self, id: u32, link: u64, grant: u32, refused: Option<(u64, Refusal)>) {
        self.changes += 1;
        if let Some(import) = self.slab.get_mut(id).filter(|i| i.link == link && i.grant == Some(grant)) {
            let from = refused.map(|(at, _)| at);
            import.refused_from = match (import.refused_from, from) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            provoked!(INFO, target: "vmmc::engine", peer = %import.peer, export = import.name, refused = from.is_some(),
                "import revoked by the peer");
            let (peer, name) = (import.peer, import.name.clone());
            let error = match refused {
                Some((_, Refusal::Lent)) => EngineError::RefusedLent { peer, name },
                _ => EngineError::Revoked { peer, name },
            };
            import.fail(id, error, &mut self.events);
        }
    }

    /// Moves the imports that wait for an answer from one link to another: what to ask there.
    pub(crate) fn move_waiting(&mut self, from: u64, to: u64) -> Vec<(u32, Key, String)> {
        let waiting = self.slab.iter_mut().filter(|(_, i)| i.link == from && i.state == ImportState::Waiting);
        waiting
            .map(|(id, import)| {
                import.link = to;
                (id, import.key, import.name.clone())
            })
            .collect()
    }

    /// A link has ended, and its imports with it.
    pub(crate) fn link_ended(&mut self, link: u64, peer: SocketAddr, end: LinkEnd) {
        self.changes += 1;
        for (id, import) in self.slab.iter_mut().filter(|(_, i)| i.link == link) {
            import.fail(id, EngineError::LinkEnded { peer: import.peer, end }, &mut self.events);
        }
        self.fetches.link_ended(link, &EngineError::LinkEnded { peer, end });
    }

    /// A local export has gone.
    pub(crate) fn local_revoked(&mut self, gone: u32) {
        for (id, import) in self.slab.iter_mut() {
            if matches!(import.state, ImportState::Local { export, .. } if export == gone) {
                let error = EngineError::Revoked { peer: import.peer, name: import.name.clone() };
                import.fail(id, error, &mut self.events);
            }
        }
    }

    /// A local export's queue of notifications has room again.
    pub(crate) fn offer_local(&mut self, has_room: u32) {
        let Imports { slab, events, wanting, .. } = self;
        wanting.retain(|&id| {
            let Some(import) = slab.get_mut(id) else { return false };
            let waits = matches!(import.state, ImportState::Local { export, .. } if export != has_room);
            if !waits {
                import.offer(id, events);
            }
            waits
        });
    }
}
