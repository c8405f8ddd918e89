//! Files that are offered: read into an export of their own once, from which `vmmc get` fetches them without anybody's doing here.

use std::error::Error;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use vmmc::{Export, Key, Node};

use crate::pieces::IN_PACKETS;
use crate::protocol::{TRAILER_LEN, Trailer, get_export};
use crate::put::{Piece, Source, SourceError};
use crate::units::Sha256Sum;

/// A file to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// A file that is there.
pub(super) struct Found {
    name: String,
    source: Source,
}

/// A file that is offered, as long as this is there.
pub(super) struct Offered {
    _data: Export,
    _about: Export,
}

/// An offer in the form NAME:PATH.
pub(super) fn parse(text: &str) -> Result<Offer, String> {
    let (name, path) = text.split_once(':').ok_or("a file to offer is NAME:PATH, like table:/srv/table.bin")?;
    super::check_name(name)?;
    if path.is_empty() {
        return Err("the path is missing".to_owned());
    }
    Ok(Offer { name: name.to_owned(), path: path.into() })
}

impl Found {
    /// Looks for the file.
    pub(super) fn find(offer: &Offer) -> Result<Found, SourceError> {
        Ok(Found { name: offer.name.clone(), source: Source::find(&offer.path)? })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its length, bytes.
    pub(super) fn length(&self) -> u64 {
        self.source.length()
    }

    /// Reads it into an export, and says in another how long it is and what is in it.
    pub(super) fn offer(&self, node: &Node, key: Key) -> Result<Offered, Box<dyn Error>> {
        let export = |name: &str, length: u64| {
            // There is no export of nothing.
            let length = usize::try_from(length.max(1)).unwrap_or(usize::MAX);
            node.export(name).len(length).key(key).readable(true).writable(false).create()
        };
        let data = export(&self.name, self.length())?;
        let (mut at, mut hash, pieces) = (0, Sha256::new(), self.source.read(vec![vec![0; IN_PACKETS]; 2]));
        while at < self.length() {
            let Piece { buffer, length } = pieces.full.recv()??;
            hash.update(&buffer[..length]);
            data.write(at, &buffer[..length])?;
            at += length as u64;
            pieces.done(buffer);
        }
        let about = export(&get_export(&self.name), TRAILER_LEN as u64)?;
        let sha256 = Sha256Sum(hash.finalize().into());
        about.write(0, &Trailer { length: self.length(), sha256, name: self.source.name() }.emit())?;
        Ok(Offered { _data: data, _about: about })
    }
}
