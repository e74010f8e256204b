//! The place of a cached answer in the store, so that it can be forgotten.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::engine::dispatch::types::Dispatch;
use crate::engine::world::observer::Notice;
use crate::stores::StoreError;

/// The place of a cached answer.
#[derive(Clone)]
pub struct KeptAs {
    dispatch: Weak<Dispatch>,
    name: QuestionDigest,
}

impl KeptAs {
    pub(super) fn new(dispatch: &Arc<Dispatch>, name: QuestionDigest) -> Self {
        KeptAs { dispatch: Arc::downgrade(dispatch), name }
    }

    /// Forgets it, because it does not fit what was asked for. A state that cannot be written is a warning.
    pub fn forget(&self) {
        let Some(dispatch) = self.dispatch.upgrade() else { return };
        if let Err(error) = dispatch.store.forget_answers(Some(&self.name)) {
            warn(&dispatch, &error);
        }
    }
}

impl fmt::Debug for KeptAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptAs")
    }
}

impl PartialEq for KeptAs {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Warns that the store of the answers failed.
pub(super) fn warn(dispatch: &Dispatch, error: &StoreError) {
    let words = format!("answers are not kept: {error}; {}", error.hint());
    dispatch.notice(&Notice::Warning(words));
}
