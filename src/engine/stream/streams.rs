//! The index of parked streams by their deadlines, and what ends them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::reader::Reading;
use crate::engine::call::Calls;
use crate::engine::call::errors::{closed, time_is_over};
use crate::error::Error;
use crate::kernel::Moment;

/// The streams of an engine.
pub(in crate::engine) struct Streams {
    pub(super) calls: Arc<Calls>,
    /// Notifies streams that wait for a piece when the engine is closed.
    pub(super) closing: Notify,
    parked: Mutex<Index>,
}

/// The parked streams by the moment at which their time is over.
#[derive(Default)]
struct Index {
    streams: BTreeMap<Number, Weak<dyn Expiring>>,
    last: u64,
}

/// The deadline of a parked stream and its place among those with the same one.
pub(super) type Number = (Moment, u64);

/// A parked stream, as far as its end is concerned.
pub(super) trait Expiring: Send + Sync {
    /// Ends the stream if it is parked. Returns the aborted request.
    fn end(&self, error: Error) -> Option<Box<Reading>>;
}

/// What is left to do after [`Engine::end_overdue`](crate::engine::Engine::end_overdue).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overdue {
    /// How many requests were ended.
    pub ended: usize,
    /// After how long the next stream is overdue; `None` when there is none whose time ends.
    pub next: Option<Duration>,
}

impl Streams {
    pub(in crate::engine) fn new(calls: Arc<Calls>) -> Arc<Self> {
        Arc::new(Streams { calls, closing: Notify::new(), parked: Mutex::default() })
    }

    /// Makes a stream with a number among the parked ones, and knows it from here on.
    pub(super) fn park<S: Expiring + 'static>(
        &self,
        expires: Moment,
        make: impl FnOnce(Number) -> S,
    ) -> Arc<S> {
        let mut parked = self.parked.lock();
        parked.last += 1;
        let number = (expires, parked.last);
        let stream = Arc::new(make(number));
        // Named in full: `Arc::downgrade` would look for the trait.
        let known: Weak<S> = Arc::downgrade(&stream);
        parked.streams.insert(number, known);
        stream
    }

    pub(super) fn forget(&self, number: Number) {
        self.parked.lock().streams.remove(&number);
    }

    /// Ends the parked streams whose time is over; a stream that waits for a piece ends by itself.
    pub(in crate::engine) fn end_overdue(&self) -> Overdue {
        let now = self.calls.dispatch.now();
        let due: Vec<Arc<dyn Expiring>> = {
            let mut parked = self.parked.lock();
            let later = parked.streams.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut parked.streams, later);
            due.into_values().filter_map(|stream| stream.upgrade()).collect()
        };
        let requests: Vec<_> = due.iter().filter_map(|stream| stream.end(time_is_over())).collect();
        Overdue { ended: requests.len(), next: self.next_overdue() }
    }

    /// After how long the next stream is overdue; `None` when there is none whose time ends.
    pub(in crate::engine) fn next_overdue(&self) -> Option<Duration> {
        let next = self.parked.lock().streams.keys().next().map(|(expires, _)| *expires);
        let next = next.filter(|expires| *expires != Moment::FAR_FUTURE)?;
        Some(next.since(self.calls.dispatch.now()))
    }

    /// Ends all streams. Returns how many requests of parked ones that ended.
    pub(in crate::engine) fn close(&self) -> usize {
        self.closing.notify_waiters();
        let parked: Vec<Arc<dyn Expiring>> =
            self.parked.lock().streams.values().filter_map(Weak::upgrade).collect();
        let requests: Vec<_> = parked.iter().filter_map(|stream| stream.end(closed())).collect();
        requests.len()
    }
}
