//! Copies of the whole state: into a file of its own while the node runs, and back.
//!
//! A copy has no name in its folder, so nothing of it is left, however the node ends.

use std::fs::File;
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use super::file::{builder, has_tables};
use super::tables::{DatabaseError, ENTRIES, USED, unusable};

/// Copies the state, as a transaction reads it, into a new database beside the state's own file.
///
/// # Errors
///
/// Returns an error when the state cannot be read, or the disk has no room for the copy.
pub(super) fn copy(from: &ReadTransaction, folder: &Path) -> Result<File, redb::Error> {
    let copy = new_file(folder)?;
    let backend = FileBackend::new(copy.try_clone()?)?;
    let to = builder().create_with_backend(backend)?;
    write_into(&to, from)?;
    Ok(copy)
}

/// An empty file in the folder of the state's own, without a name there.
pub(super) fn new_file(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder)
}

/// Opens a copy of a state. This reads all of it, so damage is found.
///
/// # Errors
///
/// Returns an error when the file is no state of plugins, or is damaged.
pub(super) fn open(copy: File) -> anyhow::Result<Database> {
    // Otherwise it would become a new database.
    anyhow::ensure!(copy.metadata()?.len() > 0, "it is empty");
    let database = builder().create_with_backend(FileBackend::new(copy)?)?;
    anyhow::ensure!(has_tables(&database)?, "it has no state of plugins");
    Ok(database)
}

/// Replaces the state by that of a copy, in one transaction. Returns the number of its entries.
pub(super) fn replace(database: &Database, by: &Database) -> Result<u64, DatabaseError> {
    let from = by.begin_read().map_err(unusable)?;
    write_into(database, &from).map_err(unusable)
}

/// Writes all that a transaction reads into a database, in place of what is there. Returns the number
/// of the entries.
fn write_into(database: &Database, from: &ReadTransaction) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.delete_table(ENTRIES)?;
    transaction.delete_table(USED)?;
    let mut count = 0;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for entry in from.open_table(ENTRIES)?.iter()? {
            let (key, value) = entry?;
            entries.insert(key.value(), value.value())?;
            count += 1;
        }
        let mut used = transaction.open_table(USED)?;
        for entry in from.open_table(USED)?.iter()? {
            let (plugin, bytes) = entry?;
            used.insert(plugin.value(), bytes.value())?;
        }
    }
    transaction.commit()?;
    Ok(count)
}
