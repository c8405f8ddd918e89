//! What the engine knows of one peer: the link, the grants given to it, and what is to be told to it.

use std::collections::{HashMap, VecDeque};

use super::EngineCounters;
use super::bulk::{HeardTransfer, Thresholds, Transfers};
use super::exports::{Export, Exports, Key};
use super::fetch::Heard;
use super::imports::Imports;
use super::serve::Jobs;
use super::slab::Slab;
use crate::link::Link;
use crate::log::provoked;
use crate::port::{Port, TxPacket};
use crate::time::Time;
use crate::wire::record::{Access, BulkRecord, ImportStatus, MAX_NAME, Notify, Record, Refusal};
use crate::wire::{Reader, WireError};

/// How many answers may wait for a peer that doesn't take them. Then its packets aren't processed.
const MAX_ANSWERS: usize = 1024;

/// How many grants a peer may have.
const MAX_GRANTS: usize = 1 << 16;

/// A record to be sent, with its body.
#[derive(Debug)]
pub(super) struct Control {
    record: Record,
    body: Box<[u8]>,
    /// What it tells of may have waited for long before anybody looked.
    late: bool,
}

/// Permission for the peer to write into an export.
#[derive(Debug)]
pub(super) struct Grant {
    export: u32,
    /// Nothing is taken under it any more: the export is gone, or the peer has sent past its end.
    refused: bool,
    /// A refusal has been told.
    told: bool,
}

impl Grant {
    /// It ends, and its export, if there still is one, has an importer less.
    fn end(&self, exports: &mut Exports) {
        if let Some(export) = exports.get_mut(self.export) {
            export.importers = export.importers.saturating_sub(1);
        }
    }
}

/// Why a packet was not processed to its end.
pub(super) enum Stop {
    /// There is no room for what it says. Go on at this many bytes before its end.
    Blocked(usize),
    /// It breaks the protocol.
    Violation(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Stop {
        Stop::Violation(error)
    }
}

/// A DATA packet that has room for more.
#[derive(Debug)]
pub(super) struct Open {
    pub packet: TxPacket,
    /// Bytes of records that still fit.
    pub room: usize,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub link: Link,
    grants: Slab<Grant>,
    /// The grants it has given us, and the imports they are of.
    held: HashMap<u32, u32>,
    control: VecDeque<Control>,
    /// Sends that were queued share this packet. It has the link's next sequence number, so nothing overtakes it.
    pub open: Option<Open>,
    /// How many answers have been queued since the queue was last empty.
    answers: usize,
    /// What the peer fetches from us.
    pub jobs: Jobs,
    /// How many fetches from it haven't been answered to their end.
    pub fetching: usize,
    /// Imports that are to be told when there is room for sends.
    pub wanting: Vec<u32>,
    /// What is sent to it by the bulk lane.
    pub bulk: Thresholds,
    /// Of that, what isn't done.
    pub transfers: Transfers,
    /// What it has said about transfers, in the packet that is being processed.
    pub heard_transfers: Vec<HeardTransfer>,
    /// How long it took until what is being heard was said, or was looked for, says nothing about the path.
    pub heard_late: bool,
    /// So many times a transfer of it was declined, and it hasn't said that it knows.
    pub declining: usize,
    /// In the engine's list of peers to attend to.
    pub listed: bool,
    /// A packet of it waits until answers have been sent.
    pub blocked: bool,
    /// Its notifications have filled the queue of this export: it gets no credit until some are taken.
    throttled_by: Option<u32>,
}

impl Peer {
    pub(super) fn new(link: Link, bulk: Thresholds) -> Peer {
        let grants = Slab::new(MAX_GRANTS);
        Peer {
            link,
            grants,
            held: HashMap::new(),
            control: VecDeque::new(),
            open: None,
            answers: 0,
            jobs: Jobs::default(),
            fetching: 0,
            wanting: Vec::new(),
            bulk,
            transfers: Transfers::default(),
            heard_transfers: Vec::new(),
            heard_late: false,
            declining: 0,
            listed: false,
            blocked: false,
            throttled_by: None,
        }
    }

    /// Queues a record.
    pub(super) fn tell(&mut self, record: Record, body: &[u8]) {
        self.link.untold = true;
        // What is said of transfers answers something, too.
        self.answers += usize::from(matches!(record, Record::Bulk(_)));
        self.control.push_back(Control { record, body: body.into(), late: false });
    }

    /// What has been queued last tells of something that may have waited for long before anybody looked.
    pub(super) fn be_late(&mut self) {
        if let Some(last) = self.control.back_mut() {
            last.late = true;
        }
    }

    /// Gives back a grant that the peer has given us.
    pub(super) fn release(&mut self, grant: u32) {
        self.held.remove(&grant);
        self.tell_in_order(Record::Release { grant });
    }

    /// Queues an answer to what the peer has said.
    pub(super) fn answer(&mut self, record: Record) {
        self.answers += 1;
        self.tell(record, &[]);
    }

    /// What has just been queued is an answer.
    pub(super) fn has_answered(&mut self) {
        self.answers += 1;
    }

    /// Whether everything it should be told has been sent.
    pub(super) fn is_told(&self) -> bool {
        self.control.is_empty()
    }

    /// Sends queued records as far as the link has room.
    pub(super) fn pump(&mut self, now: Time, port: &mut dyn Port) {
        if !self.control.is_empty() {
            self.seal(now, port);
        }
        // Credit is for sends. What is said here the peer has room for, or it would not have asked.
        while !self.control.is_empty() && self.link.control_room() > 0 {
            let Some(mut packet) = self.link.begin(port) else {
                return;
            };
            let (mut room, mut taken) = (self.link.body_room(), 0);
            while let Some(control) = self.control.get(taken) {
                let fixed = control.record.emit();
                let length = fixed.as_ref().len() + control.body.len();
                if length > room {
                    break;
                }
                if port.append(&mut packet, fixed.as_ref()) < fixed.as_ref().len()
                    || port.append(&mut packet, &control.body) < control.body.len()
                {
                    port.free(packet);
                    return;
                }
                room -= length;
                taken += 1;
            }
            // What is said of packets on the way needs no answer.
            let asks = |control: &Control| {
                !matches!(control.record, Record::Bulk(BulkRecord::Landed { .. } | BulkRecord::Sent { .. }))
            };
            // The packet with this says so, and not one that happens to leave before it.
            if self.control.iter().take(taken).any(|control| control.late) {
                self.link.be_late();
            }
            let ack_now = self.control.drain(..taken).any(|control| asks(&control));
            self.link.untold = !self.control.is_empty();
            if self.control.is_empty() {
                self.answers = 0;
            }
            self.link.seal(now, port, packet, ack_now);
        }
    }

    /// Sends the packet that queued sends share, if there is one.
    pub(super) fn seal(&mut self, now: Time, port: &mut dyn Port) {
        if let Some(open) = self.open.take() {
            self.link.seal(now, port, open.packet, false);
            self.jobs.sent();
        }
    }

    /// Gives all packets back to the port.
    pub(super) fn clear(&mut self, port: &mut dyn Port) {
        if let Some(open) = self.open.take() {
            port.free(open.packet);
        }
        self.link.clear(port);
    }

    /// The export is gone: its grants end, and the peer is told.
    pub(super) fn revoke(&mut self, export: u32) {
        let ended: Vec<u32> = self
            .grants
            .iter_mut()
            .filter(|(_, grant)| grant.export == export && !grant.refused)
            .map(|(id, grant)| {
                grant.refused = true;
                id
            })
            .collect();
        for grant in ended {
            self.tell(Record::Revoked { grant }, &[]);
            self.end_jobs(grant);
        }
    }

    /// The export that a grant is good for.
    pub(super) fn granted(&self, grant: u32) -> Option<u32> {
        self.grants.get(grant).filter(|g| !g.refused).map(|g| g.export)
    }

    /// Processes the records of a packet.
    pub(super) fn process(
        &mut self,
        reader: &mut Reader<'_, '_>,
        sequence: u64,
        exports: &mut Exports,
        imports: &mut Imports,
        counters: &mut EngineCounters,
    ) -> Result<(), Stop> {
        if self.answers >= MAX_ANSWERS {
            return Err(Stop::Blocked(reader.remaining()));
        }
        loop {
            let Some(record) = Record::parse(reader)? else {
                return Ok(());
            };
            match record {
                Record::Put { .. } if !self.link.has_promised(sequence) => {
                    return Err(WireError::Inconsistent("sequence: PUT without credit").into());
                }
                Record::Put { grant, offset, length, notify } => {
                    let id = self.granted(grant);
                    let mut target = id.and_then(|id| exports.get_mut(id));
                    let result = self.put(target.as_deref_mut(), offset, length, reader, counters);
                    if let Err(reason) = result {
                        counters.refused_puts += 1;
                        self.refuse(reason, grant, sequence);
                    } else if let (Some(export), Some(Notify { tag, total })) = (target, notify)
                        && export.options.notify
                    {
                        counters.notifications += 1;
                        let start = offset + u64::from(length) - total;
                        export.notify((start, total), tag, self.link.peer(), &mut imports.events);
                        self.watch_queue(export);
                    }
                }
                Record::Import { request, key, name } => {
                    let mut bytes = [0; MAX_NAME];
                    let name = &mut bytes[..name.into()];
                    reader.fill(name);
                    let reply = self.import(request, name, Key::new(key), exports);
                    self.answer(reply);
                }
                Record::Imported { request, status, grant, access, length } => {
                    let wanted = imports.answered(self.link.token(), request, status, grant, access, length);
                    if wanted && status == ImportStatus::Granted {
                        self.held.insert(grant, request);
                    } else if status == ImportStatus::Granted {
                        self.answer(Record::Release { grant });
                    }
                }
                Record::Release { grant } => self.released(grant, exports),
                Record::Revoked { grant } => {
                    if let Some(&import) = self.held.get(&grant) {
                        imports.revoked(import, self.link.token(), grant, None);
                    }
                }
                Record::Refused { reason, grant, sequence } => {
                    let at = self.link.sent_sequence(sequence);
                    if let Some(&import) = self.held.get(&grant) {
                        imports.revoked(import, self.link.token(), grant, Some((at, reason)));
                    }
                }
                Record::Fetch { request, grant, offset, length } => {
                    self.take_fetch((request, grant), (offset, length), exports, counters);
                }
                Record::FetchCancel { request } => self.cancel_job(request),
                Record::Fetched { .. } if !self.link.has_promised_fetched(sequence) => {
                    return Err(WireError::Inconsistent("sequence: FETCHED without credit").into());
                }
                Record::Fetched { request, at, length } => {
                    let heard = imports.fetches.piece(self.link.token(), request, (at, length), reader)?;
                    if heard != Heard::Unasked {
                        counters.fetched_bytes += u64::from(length);
                        counters.rx_copied_bytes += u64::from(length);
                    }
                    imports.changes += u64::from(heard == Heard::Last);
                    self.heard(heard, counters);
                }
                Record::FetchRefused { reason, request } => {
                    let heard = imports.fetch_refused(self.link.token(), request, reason);
                    self.heard(heard, counters);
                }
                Record::Bulk(record) => self.note_transfer(record, sequence, reader)?,
            }
        }
    }

    /// A notification of the peer's waits in an export. If there is no room for more, the peer gets no credit.
    ///
    /// It is delivered all the same, as are the others that the peer has credit for: held back, they would hold back everything behind them, answers to our
    /// own requests, too.
    #[inline]
    pub(super) fn watch_queue(&mut self, export: &mut Export) {
        if export.has_room() {
            return;
        }
        if self.throttled_by.is_none() {
            self.say_throttled(&export.options.name);
        }
        self.throttled_by = Some(export.id);
        self.link.throttle(true);
    }

    /// Takes note of a record about transfers, to be heard when the packet has been processed.
    #[cold]
    fn note_transfer(
        &mut self,
        record: BulkRecord,
        sequence: u64,
        reader: &mut Reader<'_, '_>,
    ) -> Result<(), WireError> {
        let mut heard = HeardTransfer { record, body: Box::default(), ranges: Vec::new(), sequence };
        match record {
            BulkRecord::Ask { rest, .. } => {
                heard.body = vec![0; rest.into()].into();
                reader.fill(&mut heard.body);
            }
            BulkRecord::Missing { ranges, .. } => {
                for _ in 0..ranges {
                    heard.ranges.push(BulkRecord::parse_range(reader)?);
                }
            }
            _ => {}
        }
        self.heard_transfers.push(heard);
        Ok(())
    }

    /// Keeps count of the fetches from the peer.
    fn heard(&mut self, heard: Heard, counters: &mut EngineCounters) {
        match heard {
            Heard::Unasked => counters.rx_unasked += 1,
            Heard::More => {}
            Heard::Last => self.fetching = self.fetching.saturating_sub(1),
        }
    }

    /// The peer needs a grant no longer.
    #[cold]
    fn released(&mut self, grant: u32, exports: &mut Exports) {
        if let Some(held) = self.grants.remove(grant) {
            held.end(exports);
        }
        self.end_jobs(grant);
        provoked!(DEBUG, target: "vmmc::engine", peer = %self.link.peer(), grant, "grant given back");
    }

    #[cold]
    fn say_throttled(&self, export: &str) {
        provoked!(DEBUG, target: "vmmc::engine", peer = %self.link.peer(), export, "no more credit until notifications are taken");
    }

    /// Tells the peer that a send was refused. Once for each grant: the first is what counts, and all later ones under the
    /// same grant are refused too.
    #[cold]
    pub(super) fn refuse(&mut self, reason: Refusal, grant: u32, sequence: u64) {
        if let Some(held) = self.grants.get_mut(grant) {
            held.refused = true;
            if std::mem::replace(&mut held.told, true) {
                return;
            }
        }
        provoked!(DEBUG, target: "vmmc::engine", peer = %self.link.peer(), grant, ?reason, "PUT refused, and all that follow under its grant");
        self.answer(Record::Refused { reason, grant, sequence: sequence as u32 });
    }

    /// Whether it gets no credit because notifications aren't taken.
    pub(super) fn is_throttled(&self) -> bool {
        self.throttled_by.is_some()
    }

    /// Gives credit again once the application has taken notifications. Returns whether it does.
    pub(super) fn relent(&mut self, exports: &mut Exports) -> bool {
        let relents = self.throttled_by.is_some_and(|id| exports.get_mut(id).is_none_or(Export::has_room));
        if relents {
            self.throttled_by = None;
            self.link.throttle(false);
        }
        relents
    }

    /// Writes a piece of a send to where it belongs. The payload is passed over in any case.
    fn put(
        &self,
        target: Option<&mut Export>,
        offset: u64,
        length: u16,
        reader: &mut Reader<'_, '_>,
        counters: &mut EngineCounters,
    ) -> Result<(), Refusal> {
        let Some(export) = target else {
            reader.skip(length.into());
            return Err(Refusal::NoGrant);
        };
        // `Record::parse` has checked that this doesn't overflow.
        let end = offset + u64::from(length);
        if let Err(reason) = export.allows(&(offset..end)) {
            reader.skip(length.into());
            return Err(reason);
        }
        if export.landing.store(&mut export.region, offset, reader, length.into(), counters).is_err() {
            return Err(Refusal::OutOfRange);
        }
        export.bytes += u64::from(length);
        counters.rx_copied_bytes += u64::from(length);
        counters.delivered_bytes += u64::from(length);
        Ok(())
    }

    #[cold]
    fn import(&mut self, request: u32, name: &[u8], key: Key, exports: &mut Exports) -> Record {
        let address = self.link.peer();
        let refuse = |status| {
            let name = String::from_utf8_lossy(name);
            provoked!(DEBUG, target: "vmmc::engine", peer = %address, export = ?name, reason = ?status, "import refused");
            Record::Imported { request, status, grant: 0, access: Access::default(), length: 0 }
        };
        let Some((id, export)) = exports.find(name) else {
            return refuse(ImportStatus::UnknownName);
        };
        if !export.admits(address, key) {
            return refuse(ImportStatus::Denied);
        }
        match self.grants.insert(Grant { export: id, refused: false, told: false }) {
            Err(_) => refuse(ImportStatus::TooMany),
            Ok(grant) => {
                provoked!(INFO, target: "vmmc::engine", peer = %address, export = export.options.name, grant, "import granted");
                export.importers += 1;
                Record::Imported {
                    request,
                    status: ImportStatus::Granted,
                    grant,
                    access: export.access(),
                    length: export.region.len() as u64,
                }
            }
        }
    }

    /// How many grants it holds, and hasn't given back.
    pub(super) fn grant_count(&self) -> usize {
        self.grants.len()
    }

    /// How many it has given us.
    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// The link has ended, and its grants with it.
    pub(super) fn end_grants(&self, exports: &mut Exports) {
        self.grants.iter().for_each(|(_, grant)| grant.end(exports));
    }
}
