//! Parked streams: where a stream is between two pulls, and what ends it there.
//!
//! Between two pieces a stream is parked (`ParkedStream`). The engine knows all parked streams by their deadlines.
//! `Engine::close` ends all of them, `Engine::end_overdue` those whose time is over. Ending drops the request, which
//! settles it; the next pull reports why. A stream that is checked out watches both conditions itself. One that is
//! returned too late is ended on return.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Streaming;
use super::reader::Reading;
use super::streams::{Expiring, Number, Streams};
use crate::engine::call::errors::{closed, time_is_over};
use crate::error::Error;
use crate::kernel::Moment;

/// A stream between two pieces.
pub struct ParkedStream {
    streams: Arc<Streams>,
    place: Mutex<Place>,
    number: Number,
}

enum Place {
    Here(Box<Streaming>),
    /// Checked out: a caller waits for a piece.
    Taken,
    Over,
}

/// What a checkout finds.
#[derive(Debug)]
pub enum Checkout {
    /// The stream, to ask it for its next piece. It goes back with [`ParkedStream::put_back`], or is over.
    Stream(Box<Streaming>),
    /// Nothing: another caller waits for the next piece.
    Taken,
    /// Nothing any more.
    Over,
}

impl std::fmt::Debug for ParkedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParkedStream").field("number", &self.number).finish_non_exhaustive()
    }
}

impl ParkedStream {
    /// Parks a stream; its engine knows it from here on.
    pub fn for_stream(stream: Streaming) -> Arc<ParkedStream> {
        let streams = stream.streams().clone();
        let expires = stream.expires().unwrap_or(Moment::FAR_FUTURE);
        let known = streams.clone();
        known.park(expires, |number| {
            let place = Mutex::new(Place::Here(Box::new(stream)));
            ParkedStream { streams, place, number }
        })
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

    /// Puts it back until the next pull. If its time is over or the engine is closed, it ends here.
    pub fn put_back(&self, stream: Box<Streaming>) {
        *self.place.lock() = Place::Here(stream);
        // It may have expired while it was checked out.
        if self.streams.calls.dispatch.is_closed() {
            drop(self.end(closed()));
        } else if self.streams.calls.dispatch.now() >= self.number.0 {
            drop(self.end(time_is_over()));
        }
    }

    /// Ends the pulls. Returns the stream, unless a caller waits for its next piece.
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

    /// The stream was checked out and is not put back.
    pub fn is_left(&self) {
        *self.place.lock() = Place::Over;
    }

    /// Whether there is nothing more to come.
    pub fn is_over(&self) -> bool {
        matches!(*self.place.lock(), Place::Over)
    }
}

impl Expiring for ParkedStream {
    fn end(&self, error: Error) -> Option<Box<Reading>> {
        match &mut *self.place.lock() {
            Place::Here(stream) => stream.stop(error),
            // A stream that is checked out watches its time itself.
            Place::Taken | Place::Over => None,
        }
    }
}

impl Drop for ParkedStream {
    fn drop(&mut self) {
        self.streams.forget(self.number);
    }
}
