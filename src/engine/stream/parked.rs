//! Where is a stream while nobody asks it for its next piece, and what ends it there?
//!
//! A stream is driven by whoever asks; what its time or [`Engine::close`] ends while nobody does is taken from its seat.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::Streaming;
use super::reader::Reading;
use crate::engine::Engine;
use crate::engine::call::run::closed;
use crate::engine::call::send::time_is_over;
use crate::error::Error;
use crate::kernel::Moment;

/// A stream between two pieces.
pub struct ParkedStream {
    engine: Arc<Engine>,
    place: Mutex<Place>,
    /// Its place among the seats of the engine.
    number: (Moment, u64),
}

enum Place {
    Here(Box<Streaming>),
    /// Somebody waits for a piece.
    Taken,
    Over,
}

/// What is found in a seat.
#[derive(Debug)]
pub enum Checkout {
    /// The stream, for whoever waits for its next piece. It goes back with [`ParkedStream::put_back`], or is over.
    Stream(Box<Streaming>),
    /// Nothing: somebody else waits for the next piece.
    Taken,
    /// Nothing any more.
    Over,
}

/// What is left to do after [`Engine::end_overdue`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overdue {
    /// How many requests were ended.
    pub ended: usize,
    /// After how long the next stream is overdue; `None` when there is none whose time ends.
    pub next: Option<Duration>,
}

/// All seats of an engine, by the moment at which the time of their streams is over.
#[derive(Default)]
pub(in crate::engine) struct ParkedStreams {
    streams: BTreeMap<(Moment, u64), Weak<ParkedStream>>,
    last: u64,
}

impl std::fmt::Debug for ParkedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("number", &self.number).finish_non_exhaustive()
    }
}

impl ParkedStream {
    /// A seat for a stream, which is known to its engine from here on.
    pub fn for_stream(stream: Streaming) -> Arc<ParkedStream> {
        let engine = stream.engine().clone();
        let expires = stream.expires().unwrap_or(Moment::FAR_FUTURE);
        let mut all = engine.parked.lock();
        all.last += 1;
        let number = (expires, all.last);
        let place = Mutex::new(Place::Here(Box::new(stream)));
        let parked = Arc::new(ParkedStream { engine: engine.clone(), place, number });
        all.streams.insert(number, Arc::downgrade(&parked));
        drop(all);
        parked
    }

    /// Whether the time of its stream ends at all.
    pub fn expires(&self) -> bool {
        self.number.0 != Moment::FAR_FUTURE
    }

    /// Takes the stream out, to ask it for its next piece.
    pub fn take(&self) -> Checkout {
        let mut place = self.place.lock();
        match std::mem::replace(&mut *place, Place::Taken) {
            Place::Here(stream) => Checkout::Stream(stream),
            Place::Taken => Checkout::Taken,
            Place::Over => {
                *place = Place::Over;
                Checkout::Over
            }
        }
    }

    /// Puts it back until somebody asks again; if it ought to have ended meanwhile, it ends here.
    pub fn put_back(&self, stream: Box<Streaming>) {
        *self.place.lock() = Place::Here(stream);
        // Whoever looked for it in the seat meanwhile did not find it.
        if self.engine.dispatch.is_closed() {
            drop(self.end(closed()));
        } else if self.engine.dispatch.now() >= self.number.0 {
            drop(self.end(time_is_over()));
        }
    }

    /// Nothing more will be asked. What comes back is the stream, unless somebody waits for its next piece.
    pub fn leave(&self) -> Option<Box<Streaming>> {
        let mut place = self.place.lock();
        match std::mem::replace(&mut *place, Place::Over) {
            Place::Here(stream) => Some(stream),
            Place::Taken => {
                *place = Place::Taken;
                None
            }
            Place::Over => None,
        }
    }

    /// Whoever took the stream does not bring it back.
    pub fn is_left(&self) {
        *self.place.lock() = Place::Over;
    }

    /// Whether there is nothing more to come.
    pub fn is_over(&self) -> bool {
        matches!(*self.place.lock(), Place::Over)
    }

    /// Ends the stream if it is here. What comes back is its request.
    fn end(&self, error: Error) -> Option<Box<Reading>> {
        match &mut *self.place.lock() {
            Place::Here(stream) => stream.stop(error),
            // It watches its time itself while somebody waits.
            Place::Taken | Place::Over => None,
        }
    }
}

impl Drop for ParkedStream {
    fn drop(&mut self) {
        self.engine.parked.lock().streams.remove(&self.number);
    }
}

impl Engine {
    /// Ends the streams whose time is over while nobody waits for their next piece; who does is told by the stream
    /// itself. Whoever calls this again after [`Overdue::next`] misses none.
    pub fn end_overdue(&self) -> Overdue {
        let now = self.dispatch.now();
        let due: Vec<Arc<ParkedStream>> = {
            let mut parked = self.parked.lock();
            let later = parked.streams.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut parked.streams, later);
            due.into_values().filter_map(|parked| parked.upgrade()).collect()
        };
        let requests: Vec<_> = due.iter().filter_map(|parked| parked.end(time_is_over())).collect();
        Overdue { ended: requests.len(), next: self.next_overdue() }
    }

    /// After how long the next stream is overdue; `None` when there is none whose time ends.
    pub fn next_overdue(&self) -> Option<Duration> {
        let next = self.parked.lock().streams.keys().next().map(|(expires, _)| *expires);
        let next = next.filter(|expires| *expires != Moment::FAR_FUTURE)?;
        Some(next.since(self.dispatch.now()))
    }

    /// Ends all streams for whose next piece nobody waits. Says how many requests that ended.
    pub(in crate::engine) fn end_streams(&self) -> usize {
        let parked: Vec<Arc<ParkedStream>> =
            self.parked.lock().streams.values().filter_map(Weak::upgrade).collect();
        let requests: Vec<_> = parked.iter().filter_map(|parked| parked.end(closed())).collect();
        requests.len()
    }
}
