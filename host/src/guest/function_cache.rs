//! The machine code of the functions of a plugin's last build. Two builds of a plugin in a language
//! that brings its interpreter have nearly all functions in common, and only the others are
//! compiled.
//!
//! The file has an entry for each function: the length of the key and of the code, both as 32 bits
//! in little-endian order, then the key and the code. The keys and the code are Cranelift's, which
//! does not take them from another version of itself. A function that a build does not have any more
//! is not in the next file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use wasmtime::CacheStore;

use super::component_cache::{read_checked, write_checked};

/// The length of a length in the file, in bytes.
const LENGTH_BYTES: usize = size_of::<u32>();

/// The functions of the last build, and those that only this build has.
pub(super) struct FunctionCache {
    path: PathBuf,
    former: HashMap<Box<[u8]>, FormerFunction>,
    /// The new functions, as they go into the file.
    new: Mutex<Vec<u8>>,
}

/// A function of the last build.
struct FormerFunction {
    code: Box<[u8]>,
    /// Whether this build has the function, too.
    is_used: AtomicBool,
}

impl FunctionCache {
    /// Reads the functions of the last build. A file that is missing or damaged has none.
    pub(super) fn read(path: &Path) -> FunctionCache {
        let file = read_checked(path).unwrap_or_default();
        let mut former = HashMap::new();
        let mut rest = &file[..];
        while let Some((key, code, others)) = split_entry(rest) {
            let function = FormerFunction {
                code: code.into(),
                is_used: AtomicBool::new(false),
            };
            former.insert(key.into(), function);
            rest = others;
        }
        FunctionCache {
            path: path.to_owned(),
            former,
            new: Mutex::default(),
        }
    }

    /// Returns the number of functions that this build has taken from the last one.
    pub(super) fn reused(&self) -> usize {
        let functions = self.former.values();
        functions.filter(|function| function.is_used()).count()
    }

    /// Writes the functions of this build, which has ended. They are not written again if the last build had the
    /// same ones.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn write(&self) -> io::Result<()> {
        let mut entries = std::mem::take(&mut *self.new.lock());
        if entries.is_empty() && self.reused() == self.former.len() {
            return Ok(());
        }
        for (key, function) in &self.former {
            if function.is_used() {
                put_entry(&mut entries, key, &function.code);
            }
        }
        write_checked(&self.path, &[&entries])
    }
}

impl FormerFunction {
    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }
}

/// Called by the compiler's threads.
impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let function = self.former.get(key)?;
        function.is_used.store(true, Ordering::Relaxed);
        Some(Cow::Borrowed(&function.code))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        put_entry(&mut self.new.lock(), key, &code)
    }
}

impl fmt::Debug for FunctionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionCache")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Appends an entry. Returns false if a length does not fit into its 32 bits.
fn put_entry(entries: &mut Vec<u8>, key: &[u8], code: &[u8]) -> bool {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map(u32::to_le_bytes);
    let (Ok(key_length), Ok(code_length)) = (length(key), length(code)) else {
        return false;
    };
    for part in [&key_length, &code_length, key, code] {
        entries.extend_from_slice(part);
    }
    true
}

/// Splits off the first entry: its key, its code, and the entries after it.
fn split_entry(entries: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = entries.split_at_checked(2 * LENGTH_BYTES)?;
    let (key, code) = lengths.split_at(LENGTH_BYTES);
    let length = |bytes: &[u8]| {
        let bytes = bytes.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (key_length, code_length) = (length(key)?, length(code)?);
    let (key, rest) = rest.split_at_checked(key_length)?;
    let (code, rest) = rest.split_at_checked(code_length)?;
    Some((key, code, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_kept_for_as_long_as_builds_have_it() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("chat.bin");
        let first = FunctionCache::read(&path);
        assert_eq!(first.get(b"a"), None);
        assert!(first.insert(b"a", b"code of a".to_vec()));
        assert!(first.insert(b"b", Vec::new()));
        first.write()?;

        let second = FunctionCache::read(&path);
        assert_eq!(second.get(b"a").as_deref(), Some(&b"code of a"[..]));
        assert!(second.insert(b"c", b"code of c".to_vec()));
        second.write()?;

        let third = FunctionCache::read(&path);
        assert_eq!(third.get(b"a").as_deref(), Some(&b"code of a"[..]));
        assert_eq!(third.get(b"b"), None, "the second build did not have it");
        assert_eq!(third.get(b"c").as_deref(), Some(&b"code of c"[..]));
        Ok(())
    }

    #[test]
    fn a_build_with_the_same_functions_writes_nothing() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("chat.bin");
        let first = FunctionCache::read(&path);
        first.insert(b"a", b"code".to_vec());
        first.write()?;
        let second = FunctionCache::read(&path);
        second.get(b"a");
        std::fs::remove_file(&path)?;
        second.write()?;
        assert!(!path.exists());
        Ok(())
    }

    #[test]
    fn an_entry_that_ends_too_early_is_no_entry() {
        let mut entries = Vec::new();
        put_entry(&mut entries, b"key", b"code");
        for length in 0..entries.len() {
            assert_eq!(split_entry(&entries[..length]), None, "{length}");
        }
        let whole = split_entry(&entries);
        assert_eq!(whole, Some((&b"key"[..], &b"code"[..], &b""[..])));
    }
}
