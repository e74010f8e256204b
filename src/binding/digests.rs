//! A compact table of digests, for prompts of a batch seen before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A number for each digest of 16 bytes. A Python dict of the same takes five times the memory.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct DigestTable(Mutex<HashMap<[u8; 16], u64>>);

#[pymethods]
impl DigestTable {
    #[new]
    fn new() -> Self {
        DigestTable(Mutex::default())
    }

    /// The number of this digest, if it has one.
    fn get(&self, digest: &[u8]) -> PyResult<Option<u64>> {
        Ok(self.0.lock().get(&key(digest)?).copied())
    }

    /// The number it has; if it has none, it has this one from now on.
    fn first(&self, digest: &[u8], number: u64) -> PyResult<Option<u64>> {
        Ok(match self.0.lock().entry(key(digest)?) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(place) => {
                place.insert(number);
                None
            }
        })
    }

    /// Gives it this number, whatever it had.
    fn put(&self, digest: &[u8], number: u64) -> PyResult<()> {
        self.0.lock().insert(key(digest)?, number);
        Ok(())
    }

    /// Forgets this digest, if it has that number.
    fn forget(&self, digest: &[u8], number: u64) -> PyResult<()> {
        if let Entry::Occupied(known) = self.0.lock().entry(key(digest)?)
            && *known.get() == number
        {
            known.remove();
        }
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.0.lock().len()
    }
}

fn key(digest: &[u8]) -> PyResult<[u8; 16]> {
    digest.try_into().map_err(|_| PyValueError::new_err("a digest has 16 bytes"))
}
