//! Files that are kept, and their names, which strangers have chosen.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::protocol::{cut, printable};

/// The longest name, bytes: with a number behind it, it still fits into a directory.
const MAX_NAME: usize = 240;
/// How many files of the same name are kept.
const MOST: u32 = 1000;

/// A file can't be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("can't write into the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("it can't be kept as {}: {source}", path.display())]
    Keep { path: PathBuf, source: io::Error },
}

/// Checks that files can be made in a directory.
pub(super) fn check(directory: &Path) -> Result<(), FileError> {
    begin(directory).map(drop).map_err(|source| FileError::Directory { path: directory.to_owned(), source })
}

/// Begins a file, that goes away again unless it is kept.
pub(super) fn begin(directory: &Path) -> io::Result<NamedTempFile> {
    // What umask leaves of that, as for every new file.
    let mode = Permissions::from_mode(0o666);
    Builder::new().prefix(".vmmc-").suffix(".part").permissions(mode).tempfile_in(directory)
}

/// Keeps a file under the name its sender has given it, or with a number behind it where there is one of that name.
pub(super) fn keep(mut file: NamedTempFile, directory: &Path, name: &[u8]) -> Result<PathBuf, FileError> {
    let name = safe_name(name);
    for number in 0..MOST {
        let path = directory.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => file = error.file,
            Err(error) => return Err(FileError::Keep { path, source: error.error }),
        }
    }
    let source = io::Error::other(format!("there are {MOST} of that name"));
    Err(FileError::Keep { path: directory.join(name), source })
}

/// A name that stays in its directory, isn't hidden, and does nothing to a terminal.
pub(super) fn safe_name(name: &[u8]) -> String {
    let text = printable(name).replace(char::REPLACEMENT_CHARACTER, "_");
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible = match last.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => last.to_owned(),
    };
    match cut(&visible, MAX_NAME) {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_safe() {
        for (name, safe) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\autoexec.bat", "autoexec.bat"),
            ("..", "_."),
            (".bashrc", "_bashrc"),
            ("", "unnamed"),
            ("dir/", "unnamed"),
            ("a\nb\x1b[2J", "a_b_[2J"),
        ] {
            assert_eq!(safe_name(name.as_bytes()), safe, "{name:?}");
        }
        assert_eq!(safe_name(b"\xff\x00"), "__");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_left() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "a.1", "a.2"] {
            let file = begin(directory.path()).unwrap();
            fs::write(file.path(), name).unwrap();
            assert_eq!(keep(file, directory.path(), b"../a").unwrap(), directory.path().join(name));
        }
        drop(begin(directory.path()).unwrap());
        let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "a.1", "a.2"]);
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "a");
        assert!(check(&directory.path().join("absent")).is_err());
    }

    proptest! {
        #[test]
        fn any_name_is_one_component(name in prop::collection::vec(any::<u8>(), 0..300)) {
            let safe = safe_name(&name);
            let mut components = Path::new(&safe).components();
            prop_assert!(matches!(components.next(), Some(std::path::Component::Normal(_))), "{safe:?}");
            prop_assert_eq!(components.next(), None);
            prop_assert!(safe.len() <= MAX_NAME && !safe.starts_with('.'));
        }
    }
}
