//! The file that is put: read ahead of the network by a thread of its own, and hashed by another.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::units::{Sha256Sum, Size};

/// How much is read at once, bytes: small enough to be in the cache still when it is sent (a quarter more speed than 1 MiB).
pub(crate) const PIECE: usize = 128 << 10;
/// Pieces read ahead.
const AHEAD: usize = 2;

/// Why a file can't be put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is {what}: only a regular file will do", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{} has shrunk while it was sent: it had {had}, and {found} could be read", path.display())]
    Shrunk { path: PathBuf, had: Size, found: Size },
}

/// A regular file, of the length it had when it was opened.
#[derive(Clone)]
pub(crate) struct Source {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl Source {
    pub(crate) fn find(path: &Path) -> Result<Source, SourceError> {
        let failed = |source| SourceError::Read { path: path.to_owned(), source };
        // Before it is opened: opening a pipe would block.
        let found = path.metadata().map_err(failed)?;
        if !found.is_file() {
            let what = if found.is_dir() { "a directory" } else { "a pipe, a device or a socket" };
            return Err(SourceError::NotAFile { path: path.to_owned(), what });
        }
        File::open(path).map_err(failed)?;
        Ok(Source { path: path.to_owned(), length: found.len(), modified: found.modified().ok() })
    }

    /// Length, bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Its name, without the directory.
    pub(crate) fn name(&self) -> Vec<u8> {
        self.path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default()
    }

    /// Whether it was written to since it was opened.
    pub(crate) fn has_changed(&self) -> bool {
        self.path.metadata().ok().is_none_or(|now| now.len() != self.length || now.modified().ok() != self.modified)
    }

    /// Reads it, piece by piece, in a thread.
    pub(crate) fn read(&self) -> Pieces {
        let (give, full) = sync_channel(AHEAD);
        let (give_back, empty) = sync_channel(AHEAD + 2);
        let source = self.clone();
        thread::spawn(move || {
            let mut buffers = (0..AHEAD).map(|_| Vec::new());
            let mut next = || buffers.next().or_else(|| empty.recv().ok());
            // Neither end of a channel is left before the other unless the sender has failed.
            let result = source.each_piece(&mut next, |piece| give.send(Ok(piece)).is_ok());
            if let Err(error) = result {
                let _ = give.send(Err(error));
            }
        });
        Pieces { full, empty: give_back }
    }

    /// Hashes it, in a thread. The channel yields once.
    pub(crate) fn hash(&self) -> Receiver<Result<Sha256Sum, SourceError>> {
        let (give, result) = sync_channel(1);
        let source = self.clone();
        thread::spawn(move || {
            let mut hash = Sha256::new();
            let mut spare = Some(Vec::new());
            let (put_back, spares) = sync_channel(1);
            let read = source.each_piece(&mut || spare.take().or_else(|| spares.try_recv().ok()), |piece: Vec<u8>| {
                hash.update(&piece);
                put_back.send(piece).is_ok()
            });
            let _ = give.send(read.map(|()| Sha256Sum(hash.finalize().into())));
        });
        result
    }

    /// Reads all of it into buffers that `next` yields, until `take` or `next` have had enough.
    fn each_piece(
        &self,
        next: &mut dyn FnMut() -> Option<Vec<u8>>,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), SourceError> {
        let failed = |source| SourceError::Read { path: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(failed)?;
        let mut done = 0;
        while done < self.length {
            let Some(mut buffer) = next() else { return Ok(()) };
            let wanted = (self.length - done).min(PIECE as u64);
            buffer.clear();
            let got = (&mut file).take(wanted).read_to_end(&mut buffer).map_err(failed)? as u64;
            done += got;
            if got < wanted {
                let (had, found) = (Size(self.length), Size(done));
                return Err(SourceError::Shrunk { path: self.path.clone(), had, found });
            }
            if !take(buffer) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The pieces of a file, in their order.
pub(crate) struct Pieces {
    pub(crate) full: Receiver<Result<Vec<u8>, SourceError>>,
    empty: SyncSender<Vec<u8>>,
}

impl Pieces {
    /// Gives a piece's memory back, for another.
    pub(crate) fn done(&self, piece: Vec<u8>) {
        // When the file has been read nobody needs it.
        let _ = self.empty.try_send(piece);
    }
}
