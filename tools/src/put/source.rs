//! A file that is put or offered: read ahead of whoever takes its pieces by a thread of its own, and hashed by another.

use std::fs::File;
use std::io::{self, Read};
use std::ops::DerefMut;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::pieces::IN_PACKETS;
use crate::units::{Sha256Sum, Size};

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

    /// Reads it into these buffers, in a thread. They come filled, but for the last piece, and want to be given [back](Pieces::done).
    pub(crate) fn read<B>(&self, buffers: Vec<B>) -> Pieces<B>
    where
        B: DerefMut<Target = [u8]> + Send + 'static,
    {
        let (give, full) = sync_channel(AHEAD);
        let (give_back, empty) = sync_channel(buffers.len());
        let source = self.clone();
        thread::spawn(move || {
            let mut unused = buffers.into_iter();
            // What has been used is in the cache.
            let mut next = || empty.try_recv().ok().or_else(|| unused.next()).or_else(|| empty.recv().ok());
            // Neither end of a channel is left before the other unless the sender has failed.
            let read = source.open().and_then(|mut file| {
                while let Some(mut buffer) = next() {
                    let length = file.fill(&mut buffer)?;
                    if length == 0 || give.send(Ok(Piece { buffer, length })).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
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
            let sum = source.open().and_then(|mut file| {
                let (mut hash, mut buffer) = (Sha256::new(), vec![0; IN_PACKETS]);
                loop {
                    match file.fill(&mut buffer)? {
                        0 => return Ok(Sha256Sum(hash.finalize().into())),
                        length => hash.update(&buffer[..length]),
                    }
                }
            });
            let _ = give.send(sum);
        });
        result
    }

    fn open(&self) -> Result<Reader<'_>, SourceError> {
        let file = File::open(&self.path).map_err(|source| SourceError::Read { path: self.path.clone(), source })?;
        Ok(Reader { source: self, file, done: 0 })
    }
}

/// Reads a file from beginning to end.
struct Reader<'a> {
    source: &'a Source,
    file: File,
    done: u64,
}

impl Reader<'_> {
    /// Fills the buffer, or as much of it as there is left. Returns how much that was; 0 at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let Source { ref path, length, .. } = *self.source;
        let wanted = (length - self.done).min(buffer.len() as u64) as usize;
        let mut filled = 0;
        while filled < wanted {
            match self.file.read(&mut buffer[filled..wanted]) {
                Ok(0) => {
                    let (had, found) = (Size(length), Size(self.done + filled as u64));
                    return Err(SourceError::Shrunk { path: path.clone(), had, found });
                }
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(SourceError::Read { path: path.clone(), source }),
            }
        }
        self.done += wanted as u64;
        Ok(wanted)
    }
}

/// A piece of a file.
pub(crate) struct Piece<B> {
    pub(crate) buffer: B,
    /// How many bytes at the buffer's beginning are the file's.
    pub(crate) length: usize,
}

/// The pieces of a file, in their order.
pub(crate) struct Pieces<B> {
    pub(crate) full: Receiver<Result<Piece<B>, SourceError>>,
    empty: SyncSender<B>,
}

impl<B> Pieces<B> {
    /// Gives a piece's memory back, for another.
    pub(crate) fn done(&self, buffer: B) {
        // When the file has been read nobody needs it.
        let _ = self.empty.try_send(buffer);
    }
}
