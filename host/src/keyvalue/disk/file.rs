//! The database file: how it is opened, whether it is still at its path, and whether the disk has
//! room for it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageBackend, StorageError,
    TableError,
};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::tables::{ENTRIES, USED};

/// The most bytes of the file that redb may keep in memory.
const CACHE_BYTES: usize = 32 << 20;

/// The path of the file with the plugins' state.
pub(super) struct DatabaseFile(PathBuf);

/// The identity and the length of a file. A write by another process changes one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
}

impl DatabaseFile {
    pub(super) fn new(path: PathBuf) -> DatabaseFile {
        DatabaseFile(path)
    }

    /// Opens the database, and creates it if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as `Disk::open`. The error says what to do.
    pub(super) fn open_or_make(&self) -> anyhow::Result<Database> {
        self.try_open_or_make().map_err(|error| {
            let advice = advice(&error);
            anyhow::Error::from(error).context(format!(
                "the plugins' key-value state in {self} cannot be opened (keyvalue.store). {advice}"
            ))
        })
    }

    fn try_open_or_make(&self) -> Result<Database, redb::Error> {
        let is_new = std::fs::metadata(&self.0).map_or(true, |file| file.len() == 0);
        let database = builder().create(&self.0).inspect_err(|error| {
            if is_new && matches!(error, DatabaseError::Storage(StorageError::Io(_))) {
                // What has no beginning would be no database at the next start.
                let _ = OpenOptions::new().write(true).truncate(true).open(&self.0);
            }
        })?;
        if !has_tables(&database)? {
            // Readers find the tables from the beginning.
            let transaction = database.begin_write()?;
            transaction.open_table(ENTRIES)?;
            transaction.open_table(USED)?;
            transaction.commit()?;
        }
        Ok(database)
    }

    /// Opens the existing database. An empty or missing file is an error, since a new file would
    /// lose the state silently.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no database that can be written.
    pub(super) fn open_again(&self) -> Result<Database, redb::Error> {
        let database = builder().open(&self.0)?;
        match has_tables(&database)? {
            true => Ok(database),
            false => Err(redb::Error::Corrupted(
                "it has no state of plugins".to_owned(),
            )),
        }
    }

    /// Opens the existing database for reads only. Nothing is written to the file.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no database that can be read.
    pub(super) fn open_unwritable(&self) -> Result<Database, redb::Error> {
        let file = std::fs::File::open(&self.0)?;
        if file.metadata()?.len() == 0 {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        let backend = Unwritable {
            file,
            written: Mutex::default(),
        };
        Ok(builder().create_with_backend(backend)?)
    }

    /// The folder that has the file.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = self
            .0
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    }

    /// The identity of the file that the path leads to now.
    ///
    /// # Errors
    ///
    /// Returns an error when the path leads to no file.
    pub(super) fn identity(&self) -> io::Result<FileIdentity> {
        std::fs::metadata(&self.0).map(|file| FileIdentity::of(&file))
    }

    /// Checks whether the file can be written, and made longer by `bytes` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be written or made longer.
    pub(super) fn check_room(&self, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.0)?;
        let longer = file.metadata()?.len() + bytes;
        if getrlimit(Resource::Fsize)
            .current
            .is_some_and(|most| longer > most)
        {
            return Err(Errno::FBIG.into());
        }
        // In a file without a name, which goes when it is closed. What is taken for the file
        // itself beyond its end, some file systems do not give back.
        let folder = match self.0.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let nameless = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let taken = rustix::fs::open(folder, nameless, Mode::RUSR | Mode::WUSR)
            .and_then(|file| fallocate(file, FallocateFlags::empty(), 0, bytes));
        match taken {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(error.into()),
            // A folder or a file system that cannot say it: the next change does.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for DatabaseFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

impl FileIdentity {
    fn of(file: &Metadata) -> FileIdentity {
        FileIdentity {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
        }
    }

    /// Whether both are the same file, whatever their lengths are.
    pub(super) fn is_file(&self, other: &FileIdentity) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// A file that is opened without writing. redb reads a file that was not closed properly only after
/// a repair. The pages that redb writes for the repair stay in memory.
#[derive(Debug)]
struct Unwritable {
    file: std::fs::File,
    /// The written pages, by offset. There are only a few of them, since no change is made
    /// meanwhile.
    written: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl StorageBackend for Unwritable {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)?;
        let end = offset + out.len() as u64;
        for (&at, bytes) in self.written.lock().range(..end) {
            let (from, to) = (offset.max(at), end.min(at + bytes.len() as u64));
            if from < to {
                let part = |start: u64| index(from - start)..index(to - start);
                out[part(offset)].copy_from_slice(&bytes[part(at)]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match len == self.len()? {
            true => Ok(()),
            false => Err(ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.lock().insert(offset, data.to_vec());
        Ok(())
    }
}

/// Converts a length in memory into an index.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        // A file that was damaged is found now, and not by some reader.
        .set_check_integrity_on_open(true);
    builder
}

pub(super) fn has_tables(database: &Database) -> Result<bool, redb::Error> {
    let transaction = database.begin_read()?;
    let entries = transaction.open_table(ENTRIES).map(drop);
    match entries.and_then(|()| transaction.open_table(USED).map(drop)) {
        Ok(()) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Advice about a file that cannot be opened.
fn advice(error: &redb::Error) -> &'static str {
    let kind = match error {
        redb::Error::DatabaseAlreadyOpen => {
            return "Another process has it open: end that one, or name another file";
        }
        redb::Error::Io(error) => error.kind(),
        _ => ErrorKind::InvalidData,
    };
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "Make room there, or name a file elsewhere"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "Let the node write there, or name a file elsewhere"
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            "Name a file in a folder that is there"
        }
        _ => {
            "If the file is damaged, put a copy of it back, or move it away: then the plugins \
             begin with nothing"
        }
    }
}
